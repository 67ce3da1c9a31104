"""`make compose-env`: writes .env (passwords, what is started) and generated/ (the servers' configurations).

Passwords that are there stay; `--nodes` adds nodes to the hub, which takes them with a reload and drops nobody. What a
person has put into .env stays too: CANOPY_TAG, CANOPY_API_LISTEN and so on.
"""

import argparse
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from canopy.bus.config import DEVICES, EDGE, ROUTE, Cluster, Hub, Leaf, Variable, node_files
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS

HERE = Path(__file__).parent
USERS = (*CLOUD_UNITS, *EDGE_UNITS, EDGE, DEVICES, ROUTE, "redis")
NODES = ("edge-1", "edge-2")
SERVERS = ("hub-1", "hub-2", "hub-3")
NODES_OF_THE_HUB = "CANOPY_COMPOSE_NODES"
STORE = "/var/lib/canopy"
OUR_REDIS, PUBLIC_REDIS_USER, OUR_USER = "canopy/redis", "999:1000", "65532:65532"

Environment = dict[str, str]


def environment(there: Mapping[str, str], nodes: tuple[str, ...], clustered: bool, kubeconfig: bool) -> Environment:
    """What .env should hold: what is there, what is missing made anew, and what follows from the wishes."""
    found = dict(there)
    for user in USERS:
        found.setdefault(f"CANOPY_PASSWORD_{user.upper()}", _password())
    passwords = {node: _password() for node in nodes} | nodes_of(found)
    found[NODES_OF_THE_HUB] = ",".join(f"{node}:{password}" for node, password in sorted(passwords.items()))
    found.setdefault("CANOPY_COMPOSE_API_TOKEN", _password())
    servers = SERVERS if clustered else SERVERS[:1]
    cloud = ["cloud", *(["hub-cluster"] if clustered else []), *([] if kubeconfig else ["kubeserve"])]
    redis = OUR_USER if OUR_REDIS in found.get("CANOPY_REDIS_IMAGE", "") else PUBLIC_REDIS_USER
    found |= {
        "CANOPY_COMPOSE_NATS_URL": ",".join(f"nats://{server}:4222" for server in servers),
        "CANOPY_COMPOSE_STREAM_REPLICAS": str(len(servers)),
        "CANOPY_COMPOSE_HUB_CONFIG": "hub-cluster.conf" if clustered else "hub.conf",
        "CANOPY_KUBECONFIG_SOURCE": "./generated/kubeconfig" if kubeconfig else "kubeserve",
        "CANOPY_REDIS_USER": redis,
    }
    found.setdefault("COMPOSE_PROJECT_NAME", "canopy")
    edges = [p for p in ("edge-split", "edge-folded") if p in found.get("COMPOSE_PROFILES", "edge-split,edge-folded")]
    found["COMPOSE_PROFILES"] = ",".join([*cloud, *edges])
    for node in NODES:  # `hub` is an alias of every server
        found[_hub_url(node)] = f"nats-leaf://{node}:{passwords[node]}@hub:7422"
    return found


def files(env: Mapping[str, str]) -> dict[str, str]:
    """The files of generated/ by path. Only hub/nodes/ holds passwords; the others name variables."""
    passwords = {unit: Variable(f"CANOPY_PASSWORD_{unit.upper()}") for unit in CLOUD_UNITS}
    listens = ("0.0.0.0:4222", "0.0.0.0:7422", "0.0.0.0:8222")
    routes = tuple(Variable(f"CANOPY_ROUTE_{i}") for i in range(len(SERVERS)))
    route = Variable(f"CANOPY_PASSWORD_{ROUTE.upper()}")
    cluster = Cluster(Variable("CANOPY_SERVER_NAME"), "0.0.0.0:6222", route, routes)
    found = {
        "hub/hub.conf": Hub(f"{STORE}/js", passwords, {}, *listens, None, "nodes").text(),
        "hub/hub-cluster.conf": Hub(f"{STORE}/cluster", passwords, {}, *listens, cluster, "nodes").text(),
    }
    found |= {f"hub/nodes/{name}": text for name, text in node_files(nodes_of(env)).items()}
    edge = {user: Variable(f"CANOPY_PASSWORD_{user.upper()}") for user in (*EDGE_UNITS, EDGE)}
    for node in NODES:
        leaf = Leaf(
            node,
            f"{STORE}/js",
            edge,
            Variable("CANOPY_HUB_URL"),
            mqtt_listen="0.0.0.0:1883",
            http="0.0.0.0:8222",
            device_password=Variable(f"CANOPY_PASSWORD_{DEVICES.upper()}"),
            machine=env["CANOPY_COMPOSE_API_TOKEN"][-6:],
        )
        found[f"leaves/{node}.conf"] = leaf.text()
    return found


def read(file: Path) -> Environment:
    """NAME=value lines; what is not there is empty."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: value for name, _, value in (line.partition("=") for line in lines if "=" in line)}


def written(folder: Path, env: Environment) -> None:
    """.env for its owner only; the files for the users of containers, in a folder of the owner's."""
    file = folder / ".env"
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in sorted(env.items())))
    (folder / "generated").mkdir(exist_ok=True, mode=0o700)
    for path, text in files(env).items():
        one = folder / "generated" / path
        one.parent.mkdir(parents=True, exist_ok=True)
        one.write_text(text + "\n")


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("make compose-env", description=__doc__)
    parser.add_argument("--hub-servers", type=int, choices=(1, 3), default=1, help="how many servers the hub has")
    parser.add_argument("--nodes", default="", help="more nodes that may join the hub, with commas")
    parser.add_argument("--kubeconfig", type=Path, help="a real cluster, which containers reach, in place of kubeserve")
    parser.add_argument("--folder", type=Path, default=HERE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    more = tuple(node for node in given.nodes.split(",") if node)
    there = read(given.folder / ".env")
    env = environment(there, (*NODES, *more), given.hub_servers > 1, given.kubeconfig is not None)
    written(given.folder, env)
    if given.kubeconfig is not None:
        (given.folder / "generated" / "kubeconfig").mkdir(exist_ok=True)
        copy = given.folder / "generated" / "kubeconfig" / "kubeconfig"
        shutil.copyfile(given.kubeconfig, copy)
        copy.chmod(0o644)
    sys.stdout.write(f"{given.folder}/.env: profiles {env['COMPOSE_PROFILES']}\nnext: docker-compose up -d\n")
    return 0


def nodes_of(env: Mapping[str, str]) -> dict[str, str]:
    """The nodes that may join the hub, and their passwords."""
    return dict(pair.split(":", 1) for pair in env.get(NODES_OF_THE_HUB, "").split(",") if pair)


def _hub_url(node: str) -> str:
    return f"CANOPY_COMPOSE_HUB_URL_{node.upper().replace('-', '_')}"


def _password() -> str:
    """A letter first: nats-server reads a variable like its configuration, where 12e3 is a number."""
    return f"p{secrets.token_hex(16)}"


if __name__ == "__main__":
    sys.exit(main())
