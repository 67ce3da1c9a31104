"""The system with identities, in containers, from the very files of deploy/compose: SPIRE, a hub that lets in
by certificates only, two replicas of every cloud unit and of spire_integration, and a node that has not joined yet.

It looks as `Topology` does where the stories ask for it. Nobody at NATS has a password.
"""

import asyncio
import importlib.util
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
from boxes import WAIT_FOR_THE_END, Box, Run, Spec
from cluster_box import CLOUD_NAMESPACE, ClusterBox
from topology import API, REDIS, STORE, UNIT_HEALTH, image

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY
from canopy.testing.child import free_port
from canopy.testing.clients import FleetClient, KubeClient

ROOT = Path(__file__).parents[2]
COMPOSE, SCRIPTS = ROOT / "deploy/compose", ROOT / "deploy/k8s/base/spire-server"
SPIRE_INTEGRATION, REPLICAS = "spire-integration", 2
GROUPS = {"cloudhub": 65601, "devicecontroller": 65602, "edgecontroller": 65603, SPIRE_INTEGRATION: 65604, "hub": 65605}
"""Of deploy/compose/spire/entries.json."""
TD, NODE = "fleet.test", "edge-7"
JOIN, MQTT, MONITOR, SPIRE_HEALTH = 8443, 8883, 8222, 8080
JOIN_URL = f"https://join:{JOIN}"
"""Either replica answers by this name."""
IDENTITY, SOCKET = "/run/canopy", "/run/spire/agent"
NODE_IDENTITY = f"{IDENTITY}/identity"
NODE_SECONDS = 60
"""How long a node's certificate lasts here: several of them pass while the stories are told."""


@dataclass
class Trusted:
    """`async with Trusted(run, programs)`: all of it is ready but the node, which joins and is started by the story."""

    run: Run
    programs: Path | None
    cloud: dict[str, list[Box]] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    replicas: int = REPLICAS

    def __post_init__(self) -> None:
        self.cluster = ClusterBox(self.run, self.programs)
        self._api_ports = [free_port() for _ in range(REPLICAS)]
        self.mqtt_port, self._hub_port = free_port(), free_port()

    async def __aenter__(self) -> "Trusted":
        began = time.monotonic()
        for network, internal in (("spire", False), ("cloud", False), ("uplink", True), ("site", False)):
            self.run.network(network, internal)
        self._furnish()
        await asyncio.gather(self._start_spire(), self.cluster.start(), self._start_redis())
        await asyncio.gather(self._start_hub(), self._start_cloud())
        self.figures["seconds until the fleet with identities is ready"] = round(time.monotonic() - began, 1)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.run.gone()

    def kube(self) -> KubeClient:
        return KubeClient(self.cluster.kubeconfig)

    def api(self, replica: int = 1) -> FleetClient:
        return FleetClient(f"http://127.0.0.1:{self._api_ports[replica - 1]}/api/v1", self.cluster.token)

    @property
    def spire(self) -> Box:
        return self.run.boxes["spire-server"]

    async def leaves(self) -> list[dict[str, Any]]:
        """Who is connected to the hub as a leaf."""
        async with httpx.AsyncClient(trust_env=False) as client:
            found: dict[str, Any] = (await client.get(f"http://127.0.0.1:{self._hub_port}/leafz")).json()
        return found.get("leafs") or []

    # --- what is told and written before ------------------------------------------------------------------------------
    def _furnish(self) -> None:
        folder = self.run.folder("identity")
        env = prepared().written(folder, TD)
        self._nkeys = {name: value for name, value in env.items() if name.startswith("CANOPY_NKEY_")}
        self._generated = folder / "generated"

    def _start_spec(self, name: str, program: str, **more: Any) -> Spec:
        env = {"TRUST_DOMAIN": TD, "CA_TTL": "168h", "X509_SVID_TTL": "1h"}
        return Spec(name, image(program), env=env, networks=("spire",), memory="512m", **more)

    async def _start_spire(self) -> None:
        health = free_port()
        conf, generated = COMPOSE / "spire", self._generated
        server = self._start_spec(
            "spire-server",
            "spire-server",
            command=("run", "-config", "/etc/spire/server.conf", "-expandEnv"),
            mounts={conf / "server.conf": "/etc/spire/server.conf", generated / "agents.crt": "/etc/spire/agents.crt"},
            volumes={"spire-server": STORE},
            in_memory={"spire-server-socket": "/run/spire"},
            ports={SPIRE_HEALTH: health},
            health=f"http://127.0.0.1:{health}/ready",
        )
        files = {
            conf / "agent.conf": "agent.conf",
            generated / "agent.crt": "agent.crt",
            generated / "agent.key": "agent.key",
        }
        agent = self._start_spec(
            "spire-agent",
            "spire-agent",
            command=("run", "-config", "/etc/spire/agent.conf", "-expandEnv"),
            mounts={file: f"/etc/spire/{name}" for file, name in files.items()},
            in_memory={"spire-agent": SOCKET},
            processes="host",
        )
        entries = Spec(
            "spire-entries",
            image("spire-server"),
            env={"TRUST_DOMAIN": TD, "ENTRIES_FILE": "/etc/spire/first"},
            entrypoint=("sh", "/etc/spire/entries.sh"),
            mounts={SCRIPTS / "entries.sh": "/etc/spire/entries.sh", conf / "first": "/etc/spire/first"},
            in_memory={"spire-server-socket": "/run/spire"},
        )
        await self.run.box(server).start()
        await asyncio.gather(self.run.box(agent).start(), self.run.box(entries).start())

    def _helper(self, of: str, *more: str, **spec: Any) -> Box:
        """Keeps the identity of a unit in a volume in memory, which the unit sees too."""
        command = ("--socket", f"{SOCKET}/api.sock", "--dir", IDENTITY, *more)
        volumes = {f"identity-{of}": IDENTITY, "spire-agent": SOCKET}
        return self.run.box(
            Spec(f"{of}-identity", image("identity"), command=command, in_memory=volumes, user=_user(of), **spec)
        )

    # --- the cloud ----------------------------------------------------------------------------------------------------
    async def _start_redis(self) -> None:
        await self.run.box(Spec("redis", REDIS, volumes={"redis": "/data"}, networks=("cloud",))).start()

    async def _start_hub(self) -> None:
        entrypoint = ("python3", "-c", WAIT_FOR_THE_END)
        await self.run.box(Spec("hub-processes", image("nats"), entrypoint=entrypoint)).start()
        pid = f"{IDENTITY}/nats.pid"
        helper = self._helper("hub", "--pid-file", pid, processes="hub-processes")
        hub = Spec(
            "hub",
            image("nats"),
            env={**self._nkeys, "GOMEMLIMIT": "300MiB"},
            command=("-c", "/etc/nats/hub.conf", "-P", pid),
            mounts={self._generated / "hub.conf": "/etc/nats/hub.conf"},
            volumes={"hub": STORE},
            in_memory={"identity-hub": IDENTITY},
            networks=("cloud", "uplink"),
            processes="hub-processes",
            ports={MONITOR: self._hub_port},
            health=f"http://127.0.0.1:{self._hub_port}/healthz?js-server-only=true",
        )
        await helper.start()
        await _has_identity(helper)
        await self.run.box(hub).start()

    async def _start_cloud(self) -> None:
        """spire_integration first: it registers the others."""
        await self._start_replicas(SPIRE_INTEGRATION, [self._spire_integration(i) for i in range(1, REPLICAS + 1)])
        await asyncio.gather(*(self._start_replicas(u, self._unit(u)) for u in CLOUD_UNITS))

    async def _start_replicas(self, unit: str, specs: list[Spec]) -> None:
        await self._helper(unit).start()
        self.cloud[unit] = [self.run.box(spec) for spec in specs]
        await asyncio.gather(*(box.start() for box in self.cloud[unit]))

    def _unit(self, unit: str) -> list[Spec]:
        folder, prefix = self.cluster.folder_of(unit), f"CANOPY_{unit.upper()}_"
        more = {f"{prefix}KUBECONFIG": "/etc/canopy/kubeconfig"}
        more |= (
            {f"{prefix}LEASE_NAMESPACE": CLOUD_NAMESPACE}
            if unit != "cloudhub"
            else {
                f"{prefix}API_LISTEN": f"0.0.0.0:{API}",
                f"{prefix}CACHE_URL": "redis://redis:6379/0",
                f"{prefix}BEAT_SECONDS": "2",
            }
        )
        specs = [self._of_the_cloud(unit, i, more, {folder: "/etc/canopy"}) for i in range(1, REPLICAS + 1)]
        if unit != "cloudhub":
            return specs
        return [replace(s, ports={**s.ports, API: port}) for s, port in zip(specs, self._api_ports, strict=True)]

    def _spire_integration(self, replica: int) -> Spec:
        prefix = "CANOPY_SPIRE_INTEGRATION_"
        more = {
            f"{prefix}AUTHORITY": "spire",
            f"{prefix}SPIRE_ADDRESS": "spire-server:8081",
            f"{prefix}KEYS_DIR": "/etc/canopy/keys",
            f"{prefix}ENTRIES_FILE": "/etc/canopy/entries.json",
            f"{prefix}JOIN_LISTEN": f"0.0.0.0:{JOIN}",
            f"{prefix}JOIN_URL": JOIN_URL,
            f"{prefix}NODE_TTL_SECONDS": str(NODE_SECONDS),
        }
        mounts = {
            self._generated / "keys": "/etc/canopy/keys",
            COMPOSE / "spire/entries.json": "/etc/canopy/entries.json",
        }
        spec = self._of_the_cloud(SPIRE_INTEGRATION, replica, more, mounts)
        return replace(spec, networks=("cloud", "uplink", "spire"), aliases=("join",))

    def _of_the_cloud(self, unit: str, replica: int, more: dict[str, str], mounts: dict[Path, str]) -> Spec:
        health = free_port()
        common = {"CANOPY_TRUST_DOMAIN": TD, "CANOPY_NATS_URL": "tls://hub:4222", "CANOPY_IDENTITY_DIR": IDENTITY}
        return Spec(
            f"{unit}-{replica}",
            image(unit.replace("-", "_")),
            env={**common, "CANOPY_INSECURE_LISTEN": "true", **more},
            mounts=mounts,
            volumes={f"{unit}-{replica}": STORE},
            in_memory={f"identity-{unit}": IDENTITY},
            networks=("cloud",),
            ports={UNIT_HEALTH: health},
            user=_user(unit),
            health=f"http://127.0.0.1:{health}/readyz",
        )

    # --- the node -----------------------------------------------------------------------------------------------------
    async def hold_node(self) -> None:
        """What it is before it joins: a machine with a network."""
        entrypoint, health = ("python3", "-c", WAIT_FOR_THE_END), free_port()
        ports = {MQTT: self.mqtt_port, UNIT_HEALTH: health}
        spec = Spec(f"{NODE}-net", image("nats"), entrypoint=entrypoint, ports=ports, networks=("site", "uplink"))
        await self.run.box(spec).start()
        self._edge_health = health

    async def start_node(self) -> None:
        """Its leaf and its units, which find what joining left."""
        identity = {f"{NODE}-identity": IDENTITY}
        env = {
            "CANOPY_UNITS": " ".join((EDGEIDENTITY, *EDGE_UNITS)),
            "CANOPY_NODE_NAME": NODE,
            "CANOPY_TRUST_DOMAIN": TD,
            "CANOPY_NATS_URL": "tls://127.0.0.1:4222",
            "CANOPY_IDENTITY_DIR": f"{NODE_IDENTITY}/units/edge",
            "CANOPY_INSECURE_LISTEN": "true",
            "CANOPY_EDGEIDENTITY_FOLDER": NODE_IDENTITY,
            "CANOPY_EDGEIDENTITY_STORE_FOLDER": f"{STORE}/js",
            "CANOPY_EDGEIDENTITY_HUB_URL": "tls://hub:7422",
            "CANOPY_EDGEIDENTITY_MQTT_LISTEN": f"0.0.0.0:{MQTT}",
            "CANOPY_EDGEIDENTITY_LEAF_HTTP": f"127.0.0.1:{MONITOR}",
        }
        edge = Spec(
            f"{NODE}-edge",
            image("edge"),
            env=env,
            volumes={f"{NODE}-edge": STORE, **identity},
            inside=f"{NODE}-net",
            processes=f"{NODE}-net",
            health=f"http://127.0.0.1:{self._edge_health}/readyz",
        )
        leaf = Spec(
            f"{NODE}-leaf",
            image("nats"),
            env={"GOMEMLIMIT": "24MiB"},
            # As an engine's restart policy would: edgeidentity writes the file when it has begun.
            entrypoint=(
                "sh",
                "-c",
                f"cd {NODE_IDENTITY}; until [ -s nats.conf ]; do sleep 0.2; done; exec nats-server -c $PWD/nats.conf",
            ),
            volumes={f"{NODE}-leaf": STORE, **identity},
            inside=f"{NODE}-net",
            processes=f"{NODE}-net",
        )
        boxes = [self.run.box(spec) for spec in (leaf, edge)]
        await asyncio.gather(*(box.start() for box in boxes))

    async def command(self, name: str, *words: str) -> tuple[int, str]:
        """(exit code, what it said) of the command line on the node, in a container of its own that is gone then."""
        volumes = {f"{NODE}-identity": IDENTITY, f"{NODE}-devices": STORE}
        env = {"CANOPY_ADMIN_SOCKET": f"{NODE_IDENTITY}/admin.sock"}
        spec = Spec(f"{NODE}-cli-{name}", image("cli"), env=env, command=words, volumes=volumes, inside=f"{NODE}-net")
        box = self.run.box(spec)
        return await box.finished()

    async def credentials(self, device: str) -> "Credentials":
        """Of a device, made on the node by the command that people type."""
        code, said = await self.command(device, "device", "provision", f"default/{device}", "--out", device)
        assert code == 0, said
        reader = self.run.box(
            Spec(
                f"{NODE}-read-{device}",
                image("cli"),
                volumes={f"{NODE}-devices": STORE},
                entrypoint=(
                    "sh",
                    "-c",
                    f"cd {STORE}/{device} && cat cert.pem && echo ==== && cat key.pem && echo ==== && cat ca.pem",
                ),
            )
        )
        code, said = await reader.finished()
        assert code == 0, said
        return Credentials(*said.split("====\n"))


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM texts."""

    cert: str
    key: str
    ca: str

    @contextmanager
    def files(self) -> Iterator[tuple[Path, Path, Path]]:
        with tempfile.TemporaryDirectory() as scratch:
            paths = tuple(Path(scratch) / name for name in ("cert.pem", "key.pem", "ca.pem"))
            for path, text in zip(paths, (self.cert, self.key, self.ca), strict=True):
                path.write_text(text)
            yield paths  # type: ignore[misc]

    def context(self) -> ssl.SSLContext:
        """As a device that knows its node by its roots and the name in its certificate would have it."""
        with self.files() as (cert, key, ca):
            context = ssl.create_default_context(cafile=str(ca))
            context.load_cert_chain(cert, key)
        return context


def prepared() -> ModuleType:
    """deploy/compose/prepare.py."""
    spec = importlib.util.spec_from_file_location("compose_prepare", COMPOSE / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _user(of: str) -> str:
    return f"65532:{GROUPS[of]}"


async def _has_identity(helper: Box) -> None:
    deadline = time.monotonic() + 60
    while (await helper.run_inside("test", "-s", f"{IDENTITY}/svid.pem"))[0]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{helper.name} has no identity:\n{helper.logs().decode(errors='replace')[-2000:]}")
        await asyncio.sleep(0.2)


def built() -> bool:
    """Whether the images of SPIRE are there: a build of their own makes its programs."""
    import docker
    from docker.errors import ImageNotFound

    try:
        return all(docker.from_env().images.get(image(name)) for name in ("spire-server", "spire-agent"))
    except ImageNotFound:
        return False


__all__ = ["IDENTITY", "NODE", "SPIRE_INTEGRATION", "TD", "Credentials", "Trusted", "built"]
