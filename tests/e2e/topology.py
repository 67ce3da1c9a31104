"""The whole system in containers: a hub of three servers, Redis, Kubernetes, two replicas of every cloud unit, and two
nodes behind links that can be cut: one split into sidecars, one folded. Made once for a session; stories share it.

It looks as `canopy.testing.system.System` does where the players and the eyes of the integration tests ask for it.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from boxes import WAIT_FOR_THE_END, Box, Run, Spec
from cluster_box import CLOUD_NAMESPACE, ClusterBox

from canopy.bus.config import DEVICES, EDGE, Cluster, Hub, Leaf, route_url
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS
from canopy.testing.child import free_port
from canopy.testing.clients import FleetClient, KubeClient

HERE = Path(__file__).parent
TAG = os.environ.get("CANOPY_E2E_TAG", "dev")
REDIS = os.environ.get("CANOPY_E2E_REDIS_IMAGE", f"canopy/redis:{TAG}")
HUB_SERVERS, REPLICAS = 3, 2
STORE = "/var/lib/canopy"
MQTT, CLIENTS, LEAF_HEALTH, UNIT_HEALTH, API = 1883, 4222, 8222, 8081, 8080
LEAF_MEMORY = "24MiB"
SPLIT, FOLDED = "edge-1", "edge-2"
SPLIT_UNITS: dict[str, tuple[str, ...]] = {unit: (unit,) for unit in EDGE_UNITS}
FOLDED_UNITS: dict[str, tuple[str, ...]] = {EDGE: EDGE_UNITS}


def image(name: str, tag: str = TAG) -> str:
    return f"canopy/{name}:{tag}"


@dataclass
class Node:
    """A node: the box that holds its network, its leaf, and its units by name (of the process: a unit's, or `edge`)."""

    name: str
    holder: Box
    leaf: Box
    light: Box
    units: dict[str, Box]
    mqtt_port: int
    light_port: int
    device_password: str
    client_port: int = 0

    async def cut(self) -> None:
        """The link to the hub is gone; devices and the leaf see each other still."""
        await self.holder.cut("uplink")

    async def join(self) -> None:
        await self.holder.join("uplink")

    def boxes(self) -> list[Box]:
        """All of it."""
        return [self.holder, self.leaf, self.light, *self.units.values()]


@dataclass
class Topology:
    """`async with Topology(run, programs)`: all of it, ready."""

    run: Run
    programs: Path | None
    nodes: dict[str, Node] = field(default_factory=dict)
    cloud: dict[str, list[Box]] = field(default_factory=dict)
    hub: list[Box] = field(default_factory=list)
    replicas: int = REPLICAS
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster = ClusterBox(self.run, self.programs)
        self._passwords = {user: secrets.token_urlsafe(18) for user in (*CLOUD_UNITS, *EDGE_UNITS, EDGE, DEVICES)}
        self._node_passwords = {name: secrets.token_urlsafe(18) for name in (SPLIT, FOLDED)}
        self._route_password = secrets.token_urlsafe(18)
        self._api_ports = [free_port() for _ in range(REPLICAS)]
        self._otlp_port = free_port()

    async def __aenter__(self) -> "Topology":
        began = time.monotonic()
        for network, internal in (("cloud", False), ("uplink", True), ("site", False)):
            self.run.network(network, internal)
        await asyncio.gather(self._start_hub(), self._start_stores(), self.cluster.start())
        await self._start_cloud()
        await asyncio.gather(self.add_node(SPLIT, SPLIT_UNITS), self.add_node(FOLDED, FOLDED_UNITS))
        self.figures["seconds until all is ready"] = round(time.monotonic() - began, 1)
        self.figures["seconds to ready"] = {b.name: round(b.ready_seconds, 1) for b in self.boxes()}
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.run.gone()

    # --- finding ------------------------------------------------------------------------------------------------------
    def boxes(self) -> list[Box]:
        """Every container but those that only hold a network."""
        return [box for name, box in self.run.boxes.items() if not name.endswith("-net")]

    def units(self) -> list[Box]:
        """Those that a story may kill: cloud units, the hub's servers, Redis, leaves and edge units."""
        cloud = [box for boxes in self.cloud.values() for box in boxes]
        edge = [box for node in self.nodes.values() for box in (node.leaf, *node.units.values())]
        return [*cloud, *self.hub, self.run.boxes["redis"], *edge]

    def kube(self) -> KubeClient:
        return KubeClient(self.cluster.kubeconfig)

    def api(self, replica: int = 1) -> FleetClient:
        return FleetClient(f"http://127.0.0.1:{self._api_ports[replica - 1]}/api/v1", self.cluster.token)

    async def spans(self) -> list[dict[str, str]]:
        """What the OTLP receiver has taken: trace, span, parent, name, service."""
        async with httpx.AsyncClient(trust_env=False) as client:
            found: list[dict[str, str]] = (await client.get(f"http://127.0.0.1:{self._otlp_port}/spans")).json()
        return found

    async def metrics(self) -> Path:
        """What every unit measures, each in a file of a folder."""
        folder = self.run.directory.parent / "logs" / "metrics"
        folder.mkdir(parents=True, exist_ok=True)
        async with httpx.AsyncClient(trust_env=False) as client:
            for box in self.boxes():
                if box.spec.health.endswith("/readyz") and box.name != "kube-apiserver":
                    with contextlib.suppress(httpx.TransportError):
                        answer = await client.get(box.spec.health.removesuffix("/readyz") + "/metrics")
                        (folder / f"{box.name}.txt").write_text(answer.text)
        return folder

    async def measured(self) -> None:
        """RSS of every container that has a Python in it, in MB."""
        sizes = await asyncio.gather(*(box.rss_mb() for box in self.boxes()))
        self.figures["rss_mb"] = {b.name: mb for b, mb in zip(self.boxes(), sizes, strict=True) if mb}

    # --- the cloud ----------------------------------------------------------------------------------------------------
    async def _start_hub(self) -> None:
        servers = [f"hub-{i}" for i in range(1, HUB_SERVERS + 1)]
        self._configure_hub()
        for name in servers:
            port = free_port()
            spec = Spec(
                name,
                image("nats"),
                ports={LEAF_HEALTH: port},
                mounts={self.run.folder(name): "/etc/nats"},
                volumes={name: STORE},
                networks=("cloud", "uplink"),
                health=f"http://127.0.0.1:{port}/healthz?js-server-only=true",
            )
            self.hub.append(self.run.box(spec))
        await asyncio.gather(*(box.start() for box in self.hub))

    def _configure_hub(self) -> None:
        servers = [f"hub-{i}" for i in range(1, HUB_SERVERS + 1)]
        passwords = {unit: self._passwords[unit] for unit in CLOUD_UNITS}
        for name in servers:
            routes = tuple(route_url(f"{other}:6222", self._route_password) for other in servers if other != name)
            listens = ("0.0.0.0:4222", "0.0.0.0:7422", f"0.0.0.0:{LEAF_HEALTH}")
            cluster = Cluster(name, "0.0.0.0:6222", self._route_password, routes)
            text = Hub(f"{STORE}/js", passwords, self._node_passwords, *listens, cluster).text()
            self._write(name, text)

    def _write(self, folder: str, config: str) -> Path:
        """A server's configuration, which the user of its container may read."""
        found = self.run.folder(folder)
        (found / "nats.conf").write_text(config)
        (found / "nats.conf").chmod(0o644)
        return found

    async def _start_stores(self) -> None:
        redis = Spec("redis", REDIS, volumes={"redis": "/data"}, networks=("cloud",))
        receiver = self.run.folder("otlp")
        (receiver / "receiver.py").write_text((HERE / "otlp_receiver.py").read_text())
        (receiver / "receiver.py").chmod(0o644)
        otlp = Spec(
            "otlp",
            image("cloudhub"),
            entrypoint=("python3", "/otlp/receiver.py"),
            ports={4318: self._otlp_port},
            mounts={receiver: "/otlp"},
            networks=("cloud",),
            health=f"http://127.0.0.1:{self._otlp_port}/spans",
        )
        await asyncio.gather(self.run.box(redis).start(), self.run.box(otlp).start())

    async def _start_cloud(self) -> None:
        for unit in CLOUD_UNITS:
            folder = self.cluster.folder_of(unit)
            self.cloud[unit] = [self.run.box(self._cloud_spec(unit, i, folder)) for i in range(1, REPLICAS + 1)]
        await asyncio.gather(*(box.start() for boxes in self.cloud.values() for box in boxes))

    def _cloud_spec(self, unit: str, replica: int, kubeconfig: Path) -> Spec:
        health, prefix = free_port(), f"CANOPY_{unit.upper()}_"
        env = {
            **self._common(unit),
            "CANOPY_NATS_URL": ",".join(f"nats://hub-{i}:4222" for i in range(1, HUB_SERVERS + 1)),
            "CANOPY_STREAM_REPLICAS": str(HUB_SERVERS),
            f"{prefix}KUBECONFIG": "/etc/canopy/kubeconfig",
        }
        ports = {UNIT_HEALTH: health}
        if unit == "cloudhub":
            env |= {
                f"{prefix}API_LISTEN": f"0.0.0.0:{API}",
                f"{prefix}CACHE_URL": "redis://redis:6379/0",
                f"{prefix}BEAT_SECONDS": "2",
                "CANOPY_OTLP_ENDPOINT": "http://otlp:4318",
            }
            ports[API] = self._api_ports[replica - 1]
        else:
            env[f"{prefix}LEASE_NAMESPACE"] = CLOUD_NAMESPACE
        return Spec(
            f"{unit}-{replica}",
            image(unit),
            env=env,
            ports=ports,
            mounts={kubeconfig: "/etc/canopy"},
            volumes={f"{unit}-{replica}": STORE},
            networks=("cloud",),
            health=f"http://127.0.0.1:{health}/readyz",
        )

    def _common(self, user: str) -> dict[str, str]:
        login = {"CANOPY_NATS_USER": user, "CANOPY_NATS_PASSWORD": self._passwords[user]}
        return {**login, "CANOPY_INSECURE_LISTEN": "true"}

    # --- nodes --------------------------------------------------------------------------------------------------------
    async def add_node(
        self,
        name: str,
        processes: Mapping[str, tuple[str, ...]],
        images: Mapping[str, str] | None = None,
        clients: bool = False,
    ) -> Node:
        """A node whose units run in these processes, each from its image or from the one that `images` names. With
        `clients`, its leaf's own clients may come from this machine, in the place of a unit."""
        if name not in self._node_passwords:
            await self._admit(name)
        mqtt, leaf_port, light, health = free_port(), free_port(), free_port(), {p: free_port() for p in processes}
        inside = {process: UNIT_HEALTH + i for i, process in enumerate(processes)}
        ports = {MQTT: mqtt, LEAF_HEALTH: leaf_port} | {inside[p]: health[p] for p in processes}
        bus = free_port() if clients else 0
        if bus:
            ports[CLIENTS] = bus
        holder = Spec(
            f"{name}-net",
            image("nats"),
            entrypoint=("python3", "-c", WAIT_FOR_THE_END),
            ports=ports,
            networks=("site", "uplink"),
        )
        made = [
            self.run.box(spec)
            for spec in (
                holder,
                self._leaf(name, leaf_port, "0.0.0.0" if bus else "127.0.0.1"),
                self._light(name, light),
            )
        ]
        node = Node(name, *made, {}, mqtt, light, self._passwords[DEVICES], bus)
        await asyncio.gather(node.holder.start(), node.light.start())
        await node.leaf.start()
        for process in processes:
            given = (images or {}).get(process, image(process))
            spec = self._edge_spec(name, process, inside[process], health[process], given)
            node.units[process] = self.run.box(spec)
        await asyncio.gather(*(box.start() for box in node.units.values()))
        self.nodes[name] = node
        return node

    async def remove_node(self, name: str) -> None:
        """As if it had never been, but that the hub knows it."""
        boxes = [box for box in self.run.boxes.values() if box.name.startswith(f"{name}-")]
        for box in sorted(boxes, key=lambda box: not box.spec.inside):  # first those inside another's network
            await box.gone()
            del self.run.boxes[box.name]
        self.nodes.pop(name, None)
        async with self.kube() as kube:
            await kube.delete("Node", name)

    async def connections(self) -> set[str]:
        """Who is connected to the hub, clients and leaves, and since when."""
        found = set[str]()
        for server in self.hub:
            root = server.spec.health.partition("/healthz")[0]
            async with httpx.AsyncClient(trust_env=False, base_url=root) as client:
                for path, key in (("/connz", "connections"), ("/leafz", "leafs")):
                    for one in (await client.get(path)).json().get(key) or ():
                        found.add(f"{server.name} {one.get('name')} {one.get('cid') or one.get('id')}")
        return found

    async def _admit(self, name: str) -> None:
        """One more node: the hub's servers are told of it, and drop nobody."""
        self._node_passwords[name] = secrets.token_urlsafe(18)
        self._configure_hub()
        await asyncio.gather(*(server.signal("SIGHUP") for server in self.hub))

    def password(self, user: str) -> str:
        return self._passwords[user]

    def _leaf(self, name: str, health: int, listen: str) -> Spec:
        secret = self._node_passwords[name]
        hub = ",".join(f"nats-leaf://{name}:{secret}@hub-{i}:7422" for i in range(1, HUB_SERVERS + 1))
        passwords = {user: self._passwords[user] for user in (*EDGE_UNITS, EDGE)}
        config = Leaf(
            name,
            f"{STORE}/js",
            passwords,
            hub,
            f"{listen}:{CLIENTS}",
            mqtt_listen=f"0.0.0.0:{MQTT}",
            http=f"0.0.0.0:{LEAF_HEALTH}",
            device_password=self._passwords[DEVICES],
            machine=self.run.id,
        )
        return Spec(
            f"{name}-leaf",
            image("nats"),
            env={"GOMEMLIMIT": LEAF_MEMORY},
            mounts={self._write(f"{name}-leaf", config.text()): "/etc/nats"},
            volumes={f"{name}-leaf": STORE},
            inside=f"{name}-net",
            health=f"http://127.0.0.1:{health}/healthz",
        )

    def _edge_spec(self, node: str, process: str, inside: int, outside: int, given: str) -> Spec:
        return Spec(
            f"{node}-{process}",
            given,
            env={
                **self._common(process),
                "CANOPY_NATS_URL": "nats://127.0.0.1:4222",
                "CANOPY_NODE_NAME": node,
                "CANOPY_HEALTH_LISTEN": f"0.0.0.0:{inside}",
            },
            volumes={f"{node}-{process}": STORE},
            inside=f"{node}-net",
            health=f"http://127.0.0.1:{outside}/readyz",
        )

    def _light(self, node: str, port: int) -> Spec:
        return Spec(f"{node}-light", image("light"), ports={5020: port}, networks=("site",))
