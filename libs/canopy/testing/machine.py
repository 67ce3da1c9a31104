"""A node of a `System`: a machine that joins with a token, and runs a leaf and the edge's units, all as processes."""

import asyncio
from dataclasses import dataclass, field

from canopy.bus.config import EDGE
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.testing.child import free_port
from canopy.testing.fleet import Home
from canopy.testing.processes import Process
from canopy.testing.servers import Link, RunningHub, RunningLeaf
from canopy.testing.units import Units, parts


@dataclass(slots=True)
class Node:
    """One node: its leaf behind a link that can be cut (one to each server of the hub), and its edge processes by
    name. `home` has its folders and ports."""

    home: Home
    links: tuple[Link, ...]
    edge: dict[str, Process]
    lights: list[Process] = field(default_factory=list)
    running: RunningLeaf | None = None

    @classmethod
    async def begin(cls, home: Home, hub: RunningHub, split: bool, units: Units, called: str = "") -> "Node":
        """Its processes start at once, and wait: for the token, and for the leaf. `called` is what to call it in logs,
        where two machines bear one identity."""
        links = tuple([await Link.open(port) for port in hub.leaf_ports])
        hub_url, edge = hub.leaf_url(*(link.port for link in links)), dict[str, Process]()
        for part, own in parts(split, EDGE, (*EDGE_UNITS, EDGEIDENTITY)):
            settings = home.unit(part) | (home.edgeidentity(hub_url) if EDGEIDENTITY in own else {})
            edge[part] = units.process(f"{called or home.name}/{part}", own, settings)
            edge[part].spawn()
        return cls(home, links, edge)

    async def join(self, token: str) -> None:
        """Let it join; it has its identities when this returns."""
        await self.home.join(token)

    async def start_leaf(self) -> None:
        """As soon as edgeidentity has written its configuration. Raises NotReady, NoServer."""
        self.running = await self.home.leaf(self.unit(EDGEIDENTITY))

    async def kill(self) -> None:
        """kill -9 to all of it, for good."""
        children = [*self.edge.values(), *self.lights, *([self.running.server] if self.running else [])]
        await asyncio.gather(*(child.kill() for child in children))
        await asyncio.gather(*(link.close() for link in self.links))

    @property
    def name(self) -> str:
        return self.home.name

    @property
    def leaf(self) -> RunningLeaf:
        if self.running is None:
            raise RuntimeError(f"the leaf of {self.name} has not been started")
        return self.running

    @property
    def link(self) -> Link:
        """The only one, or the first."""
        return self.links[0]

    @property
    def mqtt_port(self) -> int:
        """The plain one."""
        return self.home.mqtt_port

    def unit(self, name: str) -> Process:
        """The process that runs an edge unit, of its own or folded."""
        return self.edge.get(name) or self.edge[EDGE]

    def light(self, lights: int, units: Units) -> Process:
        """One more Modbus TCP line (slaves 1 to `lights`), not yet started."""
        name = f"{self.name}/light" + (f"-{len(self.lights) + 1}" if self.lights else "")
        arguments = ("canopy.testing.light", "--port", str(free_port()), "--lights", str(lights))
        self.lights.append(process := Process(name, arguments, units.log(name)))
        return process
