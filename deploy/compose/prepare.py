"""`make compose-env`: writes .env (names, public nkeys, what is started) and generated/: the hub's configuration, whom
SPIRE knows, the nkeys of spire_integration, the root of its join endpoint, the certificate of the SPIRE agent.

What is there stays: keys, and what a person has put into .env (CANOPY_TAG, CANOPY_API_LISTEN and so on).
"""

import argparse
import datetime
import json
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from canopy.cli import nats
from canopy.identity import joinroot
from canopy.identity.hubkeys import HubKeys
from canopy.identity.roots import key_usage

HERE = Path(__file__).parent
STORE, IDENTITY = "/var/lib/canopy", "/run/canopy"
SERVERS = ("hub-1", "hub-2", "hub-3")
ONE, CLUSTER = "hub.conf", "hub-cluster.conf"
NKEYS = {name: f"CANOPY_NKEY_{name.upper()}" for name in ("issuer", "auth", "cloud", "sys")}
SECRETS = ("CANOPY_PASSWORD_REDIS", "CANOPY_PASSWORD_ROUTE", "CANOPY_COMPOSE_API_TOKEN")
OUR_REDIS, PUBLIC_REDIS_USER, OUR_USER = "canopy/redis", "999:1000", "65532:65532"
HUB_CLUSTER, KUBESERVE = "hub-cluster", "kubeserve"
HUB_NUMBER = "CANOPY_COMPOSE_HUB_NUMBER"
"""Each change of the number of servers makes another hub, with a folder of its own: one that was left off long ago does
not know who was revoked since."""
KUBECONFIG = "./generated/kubeconfig"
AGENT_DAYS = 10 * 365

Environment = dict[str, str]


def environment(
    there: Mapping[str, str], keys: HubKeys, trust_domain: str, servers: int = 0, kubeconfig: bool = False
) -> Environment:
    """What .env should hold: what is there, what is missing, what follows from wishes; `servers` 0: as before."""
    found = dict(there)
    found.setdefault("CANOPY_TRUST_DOMAIN", trust_domain)
    for name in SECRETS:
        found.setdefault(name, f"p{secrets.token_hex(16)}")  # a letter first: nats-server reads 12e3 as a number
    found.setdefault("COMPOSE_PROJECT_NAME", "canopy")
    found |= {variable: getattr(keys, name).public for name, variable in NKEYS.items()}
    found["CANOPY_REDIS_USER"] = OUR_USER if OUR_REDIS in found.get("CANOPY_REDIS_IMAGE", "") else PUBLIC_REDIS_USER
    found["CANOPY_KUBECONFIG_SOURCE"] = KUBECONFIG if kubeconfig else found.get("CANOPY_KUBECONFIG_SOURCE", KUBESERVE)
    before = int(found.get("CANOPY_COMPOSE_STREAM_REPLICAS", servers or 1))
    names = SERVERS[: servers or before]
    found[HUB_NUMBER] = str(int(found.get(HUB_NUMBER, 1)) + (len(names) != before))
    found |= {
        "CANOPY_COMPOSE_NATS_URL": ",".join(f"tls://{name}:4222" for name in names),
        "CANOPY_COMPOSE_STREAM_REPLICAS": str(len(names)),
        "CANOPY_COMPOSE_HUB_CONFIG": CLUSTER if len(names) > 1 else ONE,
    }
    started = {HUB_CLUSTER: len(names) > 1, KUBESERVE: found["CANOPY_KUBECONFIG_SOURCE"] == KUBESERVE}
    others = [p for p in found.get("COMPOSE_PROFILES", "").split(",") if p and p not in started]
    found["COMPOSE_PROFILES"] = ",".join([*(p for p, wanted in started.items() if wanted), *others])
    return found


def known(hub_names: tuple[str, ...]) -> dict[str, str]:
    """The files of spire/ by name, with more names of the hub."""
    entries = json.loads((HERE / "spire/entries.json").read_text())
    hub = next(entry for entry in entries if entry["path"] == "/hub")
    more = [name for name in hub_names if name not in hub["dns"]]
    hub["dns"] += more
    first = (HERE / "spire/first").read_text().replace(" dns:hub ", f" dns:hub {''.join(f'dns:{n} ' for n in more)}")
    return {"entries.json": json.dumps(entries, indent=1) + "\n", "first": first}


def agent_certificates() -> dict[str, bytes]:
    """The root by which the server knows its agents, which signs the one agent's certificate and nothing after it."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root = _certificate("agents", root_key, "agents", root_key)
    return {
        "agents.crt": root.public_bytes(Encoding.PEM),
        "agent.crt": _certificate("compose", key, "agents", root_key).public_bytes(Encoding.PEM),
        "agent.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now, root = datetime.datetime.now(datetime.UTC), key is signer
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one)]) for one in (name, issuer)]
    builder = x509.CertificateBuilder().subject_name(names[0]).issuer_name(names[1]).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now)
    builder = builder.not_valid_after(now + datetime.timedelta(days=AGENT_DAYS))
    builder = builder.add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
    return builder.add_extension(key_usage(root), critical=True).sign(signer, hashes.SHA256())


def written(
    folder: Path, trust_domain: str, servers: int = 0, hub_names: tuple[str, ...] = (), kubeconfig: Path | None = None
) -> Environment:
    """.env for its owner only; the files for the users of containers, in a folder of the owner's."""
    generated = folder / "generated"
    generated.mkdir(exist_ok=True, mode=0o700)
    keys = HubKeys.ensure(generated / "keys")
    file = folder / ".env"
    env = environment(read(file), keys, trust_domain, servers, kubeconfig is not None)
    hub_names = hub_names or tuple(filter(None, env.get("CANOPY_COMPOSE_HUB_NAMES", "").split(",")))
    env["CANOPY_COMPOSE_HUB_NAMES"] = ",".join(hub_names)
    joinroot.at(generated / "keys", env["CANOPY_TRUST_DOMAIN"], time.time())
    file.touch(mode=0o600)
    file.write_text("".join(f"{name}={value}\n" for name, value in sorted(env.items())))
    for name, count in ((ONE, 1), (CLUSTER, len(SERVERS))):
        store = f"{STORE}/hub-{env[HUB_NUMBER]}"
        nats.hub(servers=count, store=store, to=str(generated / name), identity=IDENTITY)
    for name, text in known(hub_names).items():
        (generated / name).write_text(text)
    if not (generated / "agent.key").exists():
        for name, pem in agent_certificates().items():
            (generated / name).write_bytes(pem)
    if kubeconfig is not None:
        (generated / "kubeconfig").mkdir(exist_ok=True)
        shutil.copyfile(kubeconfig, generated / "kubeconfig" / "kubeconfig")
    for path in (*generated.rglob("*"),):
        path.chmod(0o755 if path.is_dir() else 0o644)  # other users in containers read them; the folder is the owner's
    return env


def read(file: Path) -> Environment:
    """NAME=value lines; what is not there is empty."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {name: value for name, _, value in (line.partition("=") for line in lines if "=" in line)}


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser("make compose-env", description=__doc__)
    parser.add_argument("--trust-domain", default="canopy.test", help="of the fleet; it stays what it was at first")
    parser.add_argument("--hub-servers", type=int, choices=(1, 3), default=0, help="how many servers the hub has")
    parser.add_argument("--hub-names", default="", help="more names by which nodes elsewhere know the hub, with commas")
    parser.add_argument("--kubeconfig", type=Path, help="a real cluster, which containers reach, in place of kubeserve")
    parser.add_argument("--folder", type=Path, default=HERE, help=argparse.SUPPRESS)
    given = parser.parse_args()
    names = tuple(filter(None, given.hub_names.split(",")))
    env = written(given.folder, given.trust_domain, given.hub_servers, names, given.kubeconfig)
    servers = env["CANOPY_COMPOSE_STREAM_REPLICAS"]
    said = f"trust domain {env['CANOPY_TRUST_DOMAIN']}, a hub of {servers}, profiles {env['COMPOSE_PROFILES']}"
    sys.stdout.write(f"{given.folder}/.env: {said}\nnext: docker-compose up -d\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
