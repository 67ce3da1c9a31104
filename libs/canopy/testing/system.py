"""The whole system as processes on this machine: hub, kubeserve, cloud units, and nodes with leaf, link, edge units.

The demo and the integration tests start it, `async with System(directory) as system:`. Everything stands below
`directory`, listens on free ports of loopback, and dies with this process. Every connection is known by its
certificate: the built-in authority, spire_integration beside the cloud, edgeidentity on each node, which joins with a
token.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from canopy.bus.config import CLOUD
from canopy.contracts.roles import CLOUD_UNITS, SPIRE_INTEGRATION
from canopy.testing.child import HOST, free_port
from canopy.testing.clients import FleetClient, KubeClient
from canopy.testing.fleet import Home, Trust
from canopy.testing.machine import Node
from canopy.testing.processes import Process
from canopy.testing.servers import NatsServer, RunningHub
from canopy.testing.units import Settings, Units, parts, ready

Say = Callable[[str], None]


class System:
    """`split`: a process a unit; else the cloud's units share one and each node's another.

    `replicas` is how many processes there are of each cloud unit (or of the folded cloud) and of spire_integration,
    `hub_servers` of how many nats-servers the hub is, with a copy of each stream on each. `settings` go to every unit,
    as CANOPY_ variables without that prefix: {"CLOUDHUB_BEAT_SECONDS": "1"}. With a `kubeconfig` that cluster takes
    kubeserve's place.
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
        say: Say = lambda text: None,
    ) -> None:
        self.directory = directory.absolute()
        self.split, self.replicas = split, replicas
        self.nodes: dict[str, Node] = {}
        self.cloud: dict[str, Process] = {}
        self.units = Units(self.directory / "logs", {"STREAM_REPLICAS": str(hub_servers), **(settings or {})})
        self._hub: RunningHub | None = None
        self.api_token = secrets.token_urlsafe(24)
        self.api_ports = [free_port() for _ in range(replicas)]
        self._node_names, self._say = tuple(nodes), say
        self._kube_port = free_port()
        self.kubeconfig = kubeconfig or self.directory / "kubeserve" / "kubeconfig"
        self._own_kubernetes = kubeconfig is None
        self._trust = Trust.of(self.directory, hub_servers, replicas, self.units)
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
        await self._trust.begin()
        self._hub = await self._trust.open_hub()
        self._say(f"hub: nats-server at {self.hub.client_url}")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._start_cloud())
                for name in self._node_names:
                    group.create_task(self.add_node(name))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def add_node(self, name: str) -> None:
        """One more node joins. Raises NotReady."""
        home = Home(name, self.directory / "nodes" / name)
        node = self.nodes[name] = await Node.begin(home, self.hub, self.split, self.units)
        async with self.api() as api:
            await node.join(await api.node_token(name))
        self._say(f"{name}: joined with a token; its identities are in {home.identity}")
        await node.start_leaf()
        self._say(f"{name}: leaf nats-server at {home.leaf_url}, MQTT over TLS at {HOST}:{home.mqtt_tls_port}")
        self._say(await ready(node.edge.values()))

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
        own += self._trust.processes.values()
        for node in self.nodes.values():
            own += [*node.edge.values(), *node.lights]
        return {process.name: process for process in own}

    def servers(self) -> dict[str, NatsServer]:
        """Every nats-server by name: hub (or hub-1, hub-2 ...), edge-1/leaf ..."""
        found = {server.directory.name: server for server in self._hub.servers} if self._hub else {}
        return found | {f"{node.name}/leaf": node.leaf.server for node in self.nodes.values() if node.running}

    def pids(self) -> dict[str, tuple[int, Path]]:
        """(pid, log) of all that run."""
        found = {name: (p.pid, p.log) for name, p in self.processes().items()}
        found |= {name: (s.pid, s.log) for name, s in self.servers().items()}
        return {name: value for name, value in found.items() if value[0]}

    def unit(self, name: str, node: str = "", replica: int = 1) -> Process:
        """The process that runs a unit, of its own or folded; `node` may be left out for the first one."""
        if name not in (*CLOUD_UNITS, SPIRE_INTEGRATION):
            return self.node(node).unit(name)
        one = name if self.split or name == SPIRE_INTEGRATION else CLOUD
        return (self.cloud | self._trust.processes)[one if replica == 1 else f"{one}-{replica}"]

    def home(self, node: str = "") -> Home:
        """The folders and ports of a node."""
        return self.node(node).home

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
        process = self.node(node).light(lights, self.units)
        await process.start()
        said = process.said()
        return int(said["port"]) if said else 0

    # --- building -----------------------------------------------------------------------------------------------------
    def _kubeserve_process(self) -> Process:
        folder = str(self.directory / "kubeserve")
        arguments = ("canopy.kubeserve", "--dir", folder, "--port", str(self._kube_port))
        return Process("kubeserve", arguments, self.units.log("kubeserve"))

    async def _start_cloud(self) -> None:
        if self._own_kubernetes:
            await self.kubeserve.ready()
            self._say(f"kubeserve: https://{HOST}:{self._kube_port}")
        for number in range(1, self.replicas + 1):
            self._spawn_cloud(number)
        await self._trust.ready()
        self._say(f"{', '.join(self._trust.processes)}: the hub lets in whom they know")
        self._say(await ready(self.cloud.values()))

    def _spawn_cloud(self, replica: int) -> None:
        """Its processes, which wait for who lets them in."""
        kubeconfig = {f"{unit.upper()}_KUBECONFIG": str(self.kubeconfig) for unit in CLOUD_UNITS}
        api = {"CLOUDHUB_API_LISTEN": f"{HOST}:{self.api_ports[replica - 1]}", "CLOUDHUB_API_TOKEN": self.api_token}
        for name, units in parts(self.split, CLOUD, CLOUD_UNITS):
            full = name if replica == 1 else f"{name}-{replica}"
            own = {"NATS_URL": self.hub.client_url, "DATA_DIR": str(self.directory / "cloud" / full)}
            own |= {**self._trust.cloud(name), **kubeconfig, **api}
            self.cloud[full] = self.units.process(full, units, own)
            self.cloud[full].spawn()
