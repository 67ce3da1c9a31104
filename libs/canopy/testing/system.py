"""The whole system as processes on this machine: hub, kubeserve, cloud units, and nodes with leaf, link, edge units.

The demo and the integration tests start it, `async with System(directory) as system:`. Everything stands below
`directory`, listens on free ports of loopback, and dies with this process. Units are started as a container starts
them, `python -m canopy.launch ...`, with settings in their environment; no code of theirs is imported here.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from canopy.bus.config import CLOUD, EDGE
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, TRUST_UNITS
from canopy.testing.child import HOST, free_port
from canopy.testing.clients import FleetClient, KubeClient
from canopy.testing.fleet import Home, Trust
from canopy.testing.processes import Process
from canopy.testing.servers import Link, NatsServer, RunningHub, RunningLeaf, hub, leaf

RUN = ("canopy.launch",)

Say = Callable[[str], None]
Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its leaf behind a link that can be cut (one to each server of the hub), and its edge processes by
    name."""

    name: str
    links: tuple[Link, ...]
    leaf: RunningLeaf
    edge: dict[str, Process]
    lights: list[Process] = field(default_factory=list)

    @property
    def link(self) -> Link:
        """The only one, or the first."""
        return self.links[0]

    @property
    def mqtt_port(self) -> int:
        return self.leaf.mqtt_port

    def unit(self, name: str) -> Process:
        """The process that runs an edge unit, of its own or folded."""
        return self.edge.get(name) or self.edge["edge"]


class System:
    """`split`: a process a unit; else the cloud's units share one and each node's another.

    With `identities` every connection is known by its certificate: the built-in authority, spire_integration beside the
    cloud, edgeidentity on each node, which joins with a token; else everybody has a password (loopback only).
    `replicas` is how many processes there are of each cloud unit (or of the folded cloud), `hub_servers` of how many
    nats-servers the hub is, with a copy of each stream on each. `settings` go to every unit, as CANOPY_ variables
    without that prefix: {"CLOUDHUB_BEAT_SECONDS": "1"}. With a `kubeconfig` that cluster takes kubeserve's place.
    """

    def __init__(
        self,
        directory: Path,
        split: bool = False,
        nodes: Sequence[str] = ("edge-1",),
        *,
        replicas: int = 1,
        hub_servers: int = 1,
        settings: Settings | None = None,
        kubeconfig: Path | None = None,
        identities: bool = False,
        say: Say = lambda text: None,
    ) -> None:
        self.directory = directory.absolute()
        self.split, self.replicas, self._hub_servers = split, replicas, hub_servers
        self.nodes: dict[str, Node] = {}
        self.cloud: dict[str, Process] = {}
        self._hub: RunningHub | None = None
        self.api_token = secrets.token_urlsafe(24)
        self.api_ports: list[int] = []
        self._node_names, self._say = tuple(nodes), say
        self._settings = {"STREAM_REPLICAS": str(hub_servers), **(settings or {})}
        self._kube_port = free_port()
        self.kubeconfig = kubeconfig or self.directory / "kubeserve" / "kubeconfig"
        self._own_kubernetes = kubeconfig is None
        self._trust = self._new_trust() if identities else None
        self._homes: dict[str, Home] = {}
        self._cloud_is_up = asyncio.Event()
        self.kubeserve = self._kubeserve_process()

    # --- coming and going ---------------------------------------------------------------------------------------------
    async def __aenter__(self) -> "System":
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """All of it, side by side where nothing waits for another. Raises NotReady, NoServer."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self._own_kubernetes:
            self.kubeserve.spawn()
        if self._trust is not None:
            await self._trust.begin()
            known: dict[str, Any] = {"trust": self._trust.hub}
            known |= {"ports": self._trust.hub_ports, "leaf_ports": self._trust.leaf_ports}
        else:
            known = {"nodes": self._node_names}
        self._hub = await hub(self.directory / "hub", servers=self._hub_servers, **known)
        self._say(f"hub: nats-server at {self.hub.client_url}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_cloud())
                for name in self._node_names:
                    group.create_task(self._start_node(name))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def add_node(self, name: str) -> None:
        """One more node, with identities: it joins with a token, as a machine does that is new. Raises NotReady."""
        await self._start_known_node(name, [await Link.open(port) for port in self.hub.leaf_ports])

    async def stop(self) -> None:
        """End all of it, units first; what does not end in time is killed."""
        units = [process for process in self.processes().values() if process is not self.kubeserve]
        await asyncio.gather(*(process.stop() for process in units))
        await asyncio.gather(*(link.close() for node in self.nodes.values() for link in node.links))
        await asyncio.gather(self.kubeserve.stop(), *(server.stop() for server in self.servers().values()))

    # --- finding ------------------------------------------------------------------------------------------------------
    def processes(self) -> dict[str, Process]:
        """Every process but the nats-servers, by name: kubeserve, cloudhub, edge-1/devicetwin, edge-1/light ..."""
        own = [*([self.kubeserve] if self._own_kubernetes else []), *self.cloud.values()]
        own += self._trust.processes.values() if self._trust is not None else ()
        for node in self.nodes.values():
            own += [*node.edge.values(), *node.lights]
        return {process.name: process for process in own}

    def servers(self) -> dict[str, NatsServer]:
        """Every nats-server by name: hub (or hub-1, hub-2 ...), edge-1/leaf ..."""
        found = {server.directory.name: server for server in self._hub.servers} if self._hub else {}
        return found | {f"{node.name}/leaf": node.leaf.server for node in self.nodes.values()}

    def pids(self) -> dict[str, tuple[int, Path]]:
        """(pid, log) of all that run."""
        found = {name: (p.pid, p.log) for name, p in self.processes().items()}
        found |= {name: (s.pid, s.log) for name, s in self.servers().items()}
        return {name: value for name, value in found.items() if value[0]}

    def unit(self, name: str, node: str = "", replica: int = 1) -> Process:
        """The process that runs a unit, of its own or folded; `node` may be left out for the first one."""
        if name in CLOUD_UNITS:
            one = name if self.split else CLOUD
            return self.cloud[one if replica == 1 else f"{one}-{replica}"]
        return self.node(node).unit(name)

    def home(self, node: str = "") -> Home:
        """The folders and ports of a node with identities."""
        return self._homes[node or self._node_names[0]]

    def node(self, name: str = "") -> Node:
        return self.nodes[name or self._node_names[0]]

    @property
    def hub(self) -> RunningHub:
        if self._hub is None:
            raise RuntimeError("the system has not been started")
        return self._hub

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_ports[0]}"

    # --- clients ------------------------------------------------------------------------------------------------------
    def kube(self) -> KubeClient:
        """A client of Kubernetes: `async with system.kube() as kube:`."""
        return KubeClient(self.kubeconfig)

    def api(self, replica: int = 1) -> FleetClient:
        """A client of the fleet API: `async with system.api() as api:`."""
        return FleetClient(f"http://{HOST}:{self.api_ports[replica - 1]}/api/v1", self.api_token)

    def mqtt(self, node: str = "", identifier: str | None = None) -> Any:
        """A stock MQTT client of a node's gateway (aiomqtt.Client): `async with system.mqtt() as client:`."""
        import aiomqtt  # only here: who does not speak MQTT needs none

        return aiomqtt.Client(HOST, self.node(node).mqtt_port, identifier=identifier)

    def mqtt_tls(self, bundle: Path, node: str = "", identifier: str | None = None) -> Any:
        """The same, by the certificate of a device (cert.pem, key.pem, ca.pem in a folder) over TLS."""
        import aiomqtt

        ca, cert, key = (str(bundle / f"{name}.pem") for name in ("ca", "cert", "key"))
        tls = aiomqtt.TLSParameters(ca_certs=ca, certfile=cert, keyfile=key)
        return aiomqtt.Client("localhost", self.home(node).mqtt_tls_port, identifier=identifier, tls_params=tls)

    async def apply(self, manifests: str | dict[str, Any]) -> None:
        """Create or merge each document of a YAML text in Kubernetes."""
        async with self.kube() as kube:
            await kube.apply(manifests)

    async def light(self, node: str = "", lights: int = 1) -> int:
        """Start one more Modbus TCP line with lights (slaves 1 to `lights`) at a node; its port."""
        at = self.node(node)
        name = f"{at.name}/light" + (f"-{len(at.lights) + 1}" if at.lights else "")
        arguments = ("canopy.testing.light", "--port", str(free_port()), "--lights", str(lights))
        process = Process(name, arguments, self._log(name))
        at.lights.append(process)
        await process.start()
        said = process.said()
        return int(said["port"]) if said else 0

    # --- building -----------------------------------------------------------------------------------------------------
    def _kubeserve_process(self) -> Process:
        folder = str(self.directory / "kubeserve")
        arguments = ("canopy.kubeserve", "--dir", folder, "--port", str(self._kube_port))
        return Process("kubeserve", arguments, self._log("kubeserve"))

    async def _start_cloud(self) -> None:
        if self._own_kubernetes:
            await self.kubeserve.ready()
            self._say(f"kubeserve: https://{HOST}:{self._kube_port}")
        if self._trust is not None:
            await self._trust.ready()
            self._say(f"{', '.join(self._trust.processes)}: the hub lets in whom they know")
        for number in range(1, self.replicas + 1):
            self._name_cloud(number)
        await self._started(self.cloud.values())
        self._cloud_is_up.set()

    def _name_cloud(self, replica: int) -> None:
        api_port = free_port()
        self.api_ports.append(api_port)
        kubeconfig = {f"{unit.upper()}_KUBECONFIG": str(self.kubeconfig) for unit in CLOUD_UNITS}
        api = {"CLOUDHUB_API_LISTEN": f"{HOST}:{api_port}", "CLOUDHUB_API_TOKEN": self.api_token}
        for name, units in _split(self.split, CLOUD, CLOUD_UNITS):
            full = name if replica == 1 else f"{name}-{replica}"
            own = self._at_hub(name, self.directory / "cloud" / full)
            self.cloud[full] = self._unit_process(full, units, {**own, **kubeconfig, **api})

    async def _start_node(self, name: str) -> None:
        links = [await Link.open(port) for port in self.hub.leaf_ports]
        if self._trust is not None:
            return await self._start_known_node(name, links)
        folder = self.directory / "nodes" / name
        running = await leaf(folder / "leaf", name, self.hub.leaf_url(name, *(link.port for link in links)))
        node = self.nodes[name] = Node(name, tuple(links), running, {})
        self._say(f"{name}: leaf nats-server at {running.client_url}, MQTT at {HOST}:{running.mqtt_port}")
        for part, units in _split(self.split, EDGE, EDGE_UNITS):
            own = self._shared(running.client_url, part, running.passwords[part], folder / part)
            process = self._unit_process(f"{name}/{part}", units, {**own, "NODE_NAME": name})
            node.edge[part] = process
        await self._started(node.edge.values())

    async def _start_known_node(self, name: str, links: Sequence[Link]) -> None:
        """Its processes start at once and wait: for the token that a cloud which is up gives, and for the leaf."""
        home = self._homes[name] = Home(name, self.directory / "nodes" / name)
        hub_url = self.hub.leaf_url(name, *(link.port for link in links))
        edge: dict[str, Process] = {}
        for part, units in _split(self.split, EDGE, (*EDGE_UNITS, EDGEIDENTITY)):
            own = home.edgeidentity(hub_url) if EDGEIDENTITY in units else {}
            edge[part] = self._unit_process(f"{name}/{part}", units, {**home.unit(part), **own})
            edge[part].spawn()
        await self._cloud_is_up.wait()
        async with self.api() as api:
            given = await api.call("POST", f"nodes/{name}/token", {})
        await home.join(given["token"])
        self._say(f"{name}: joined with a token; its identities are in {home.identity}")
        running = await home.leaf(edge.get(EDGEIDENTITY) or edge[EDGE])
        self.nodes[name] = Node(name, tuple(links), running, edge)
        self._say(f"{name}: leaf nats-server at {running.client_url}, MQTT over TLS at {HOST}:{home.mqtt_tls_port}")
        await self._up(edge.values())

    def _at_hub(self, user: str, data: Path) -> dict[str, str]:
        if self._trust is None:
            return self._shared(self.hub.client_url, user, self.hub.passwords[user], data)
        return {"NATS_URL": self.hub.client_url, "DATA_DIR": str(data), **self._trust.cloud(user)}

    def _new_trust(self) -> Trust:
        servers, folder = self._hub_servers, self.directory / "hub"
        folders = [folder / f"hub-{i}" for i in range(1, servers + 1)] if servers > 1 else [folder]
        logs = tuple(each / "nats.log" for each in folders)
        clients, leaves = (tuple(free_port() for _ in range(servers)) for _ in range(2))
        return Trust(self.directory / "trust", clients, leaves, logs, self.replicas, self._unit_process)

    def _shared(self, url: str, user: str, password: str, data: Path) -> dict[str, str]:
        return {"NATS_URL": url, "NATS_USER": user, "NATS_PASSWORD": password, "DATA_DIR": str(data)}

    def _unit_process(self, name: str, units: Sequence[str], own: Settings) -> Process:
        health = free_port()
        given = {**own, "HEALTH_LISTEN": f"{HOST}:{health}", **self._settings}
        mine = {f"CANOPY_{k}": v for k, v in given.items() if _meant_for(k, units)}
        return Process(name, (*RUN, *units), self._log(name), mine, health)

    async def _started(self, processes: Any) -> None:
        processes = list(processes)
        for process in processes:
            process.spawn()
        await self._up(processes)

    async def _up(self, processes: Any) -> None:
        began = time.monotonic()
        await asyncio.gather(*(process.ready() for process in processes))
        names = ", ".join(process.name for process in processes)
        self._say(f"{names}: ready after {time.monotonic() - began:.1f} s")

    def _log(self, name: str) -> Path:
        return self.directory / "logs" / f"{name.replace('/', '.')}.log"


def _split(split: bool, folded: str, units: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """(user of the bus, units) of each process."""
    return [(unit, (unit,)) for unit in units] if split else [(folded, units)]


def _meant_for(variable: str, units: Sequence[str]) -> bool:
    """A variable of a unit that is not in the process would only be noise there."""
    others = [unit for unit in (*CLOUD_UNITS, *EDGE_UNITS, *TRUST_UNITS) if unit not in units]
    return not variable.startswith(tuple(f"{unit.upper()}_" for unit in others))
