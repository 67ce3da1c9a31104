"""A real hub and a leaf for one test, and buses on them."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from canopy.bus import Bus, Connection
from canopy.bus.config import CLOUD
from canopy.contracts.roles import CLOUD_UNITS
from canopy.runtime.telemetry import Telemetry
from canopy.testing.servers import Link, RunningHub, RunningLeaf, hub, leaf

NODE = "edge.1"
OTHER = "edge-2"


@dataclass
class World:
    """Servers and the buses on them, all closed in the end."""

    directory: Path
    hub: RunningHub
    stack: AsyncExitStack
    leaves: dict[str, RunningLeaf] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    async def leaf(self, node: str = NODE) -> RunningLeaf:
        self.links[node] = link = await Link.open(self.hub.leaf_port)
        self.stack.push_async_callback(link.close)
        found = await leaf(self.directory / node, node, self.hub.leaf_url(node, link.port))
        self.stack.push_async_callback(found.server.kill)
        self.leaves[node] = found
        return found

    async def cloud(self, unit: str) -> Bus:
        return await self._bus(self.hub.client_url, unit, unit, self.hub.passwords[unit])

    async def edge(self, unit: str, node: str = NODE) -> Bus:
        running = self.leaves[node]
        return await self._bus(
            running.client_url, unit, unit, running.passwords[unit], node if unit == "edgehub" else ""
        )

    async def _bus(self, url: str, unit: str, user: str, password: str, node: str = "") -> Bus:
        connection = await Connection.open(url, name=unit, user=user, password=password)
        self.stack.push_async_callback(connection.close, False)
        bus = Bus(connection, unit, Telemetry(unit, enabled=False), node)
        self.stack.push_async_callback(bus.close)
        await bus.open()
        return bus


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        running = await hub(tmp_path / "hub", (*CLOUD_UNITS, CLOUD), (NODE, OTHER))
        stack.push_async_callback(running.server.kill)
        yield World(tmp_path, running, stack)


Eventually = Callable[[Callable[[], Any]], Coroutine[Any, Any, None]]
