"""A hub, leaves behind links that can be cut, buses and running units on them: what tests with real servers open.

`async with open_world(tmp_path) as world:` closes everything in the end, the last opened first.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from canopy.bus import Bus, Connection
from canopy.bus.config import CLOUD
from canopy.bus.environment import Environment
from canopy.contracts.roles import CLOUD_UNITS
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared, load
from canopy.runtime.telemetry import Telemetry
from canopy.testing.servers import Link, RunningHub, RunningLeaf, hub, leaf

NODE = "edge.1"
OTHER = "edge-2"
START_SECONDS = 20.0


class Running(Protocol):
    """A unit."""

    async def run(self, started: Callable[[], None]) -> None: ...


@dataclass
class World:
    """Servers and what runs on them."""

    directory: Path
    hub: RunningHub
    stack: AsyncExitStack
    leaves: dict[str, RunningLeaf] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    async def leaf(self, node: str = NODE, server: int = 0) -> RunningLeaf:
        """The leaf of `node`, joined to one server of the hub through a Link of its own."""
        self.links[node] = link = await Link.open(self.hub.leaf_ports[server])
        self.stack.push_async_callback(link.close)
        found = await leaf(self.directory / node, node, self.hub.leaf_url(node, link.port))
        self.stack.push_async_callback(found.server.kill)
        self.leaves[node] = found
        return found

    async def cloud(self, unit: str, server: int | None = None) -> Bus:
        """A bus of a unit in the cloud, open; it knows all servers of the hub, or just the one that is named."""
        urls = self.hub.client_url.split(",")
        return await self._bus(
            ",".join(urls if server is None else urls[server : server + 1]), unit, self.hub.passwords[unit]
        )

    async def edge(self, unit: str, node: str = NODE) -> Bus:
        """A bus of a unit on `node`, whose leaf runs, open."""
        running = self.leaves[node]
        return await self._bus(running.client_url, unit, running.passwords[unit], node if unit == "edgehub" else "")

    async def environment(self, unit: str, node: str = NODE) -> Environment:
        """What a process of one unit on `node` gives it."""
        running = self.leaves[node]
        connection = await self._connection(running.client_url, unit, running.passwords[unit])
        shared = load(Shared, {"node_name": node, "data_dir": self.directory / "data" / node})
        return Environment(shared, connection, Telemetry(unit, enabled=False), Health(unit))

    async def _bus(self, url: str, unit: str, password: str, node: str = "") -> Bus:
        connection = await self._connection(url, unit, password)
        bus = Bus(connection, unit, Telemetry(unit, enabled=False), node)
        self.stack.push_async_callback(bus.close)
        await bus.open()
        return bus

    async def _connection(self, url: str, unit: str, password: str) -> Connection:
        connection = await Connection.open(url, name=unit, user=unit, password=password)
        self.stack.push_async_callback(connection.close, False)
        return connection


@asynccontextmanager
async def open_world(
    directory: Path, nodes: tuple[str, ...] = (NODE, OTHER), hub_servers: int = 1
) -> AsyncIterator[World]:
    """A running hub that knows `nodes`."""
    async with AsyncExitStack() as stack:
        running = await hub(directory / "hub", (*CLOUD_UNITS, CLOUD), nodes, servers=hub_servers)
        for server in running.servers:
            stack.push_async_callback(server.kill)
        yield World(directory, running, stack)


@asynccontextmanager
async def running(unit: Running) -> AsyncIterator["asyncio.Task[Any]"]:
    """The unit, started, until the block ends; what it raises by itself comes out."""
    started = asyncio.Event()
    task = asyncio.create_task(unit.run(started.set))
    waiting = asyncio.create_task(started.wait())
    try:
        await asyncio.wait((task, waiting), timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        if not started.is_set():
            raise TimeoutError(f"{unit} has not started within {START_SECONDS:g} s")
        yield task
        if task.done() and not task.cancelled():
            task.result()
    finally:
        waiting.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
