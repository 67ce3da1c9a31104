"""A hub, nodes behind links that can be cut, and running units on them: what tests with real servers open.

`async with open_world(tmp_path) as world:` closes everything in the end, the last opened first. Every connection bears
a certificate, as in production: the fleet's authority and each node's own are built-in ones, as in the demo.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from canopy.bus import Bus, Connection
from canopy.bus.environment import Environment
from canopy.bus.trust import HubTrust
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.hubkeys import HubKeys
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.natsjwt import Nkey
from canopy.testing.admits import Admits, Answers, answering
from canopy.testing.domain import TD, Domain, minted
from canopy.testing.node import Node
from canopy.testing.servers import NAME, Link, RunningHub, RunningLeaf, hub

NODE = "edge.1"
OTHER = "edge-2"
START_SECONDS = 40.0
HUB_FILES = "hub-identity"
Deciding = Callable[[HubKeys], Answers]


@dataclass
class World(Domain):
    """A fleet whose hub runs. `links` are those of the leaves that were started, by node."""

    keys: HubKeys
    trust: HubTrust
    hub: RunningHub
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    async def node(self, name: str = NODE) -> Node:
        """The node with its files, made at the first ask; its leaf is not started."""
        if name not in self.nodes:
            self.nodes[name] = await Node.make(self.folder / "nodes" / name, name, self.authority, self.stack)
        return self.nodes[name]

    async def leaf(self, name: str = NODE, server: int = 0) -> RunningLeaf:
        """Start the node's leaf, joined to one server of the hub through a Link of its own."""
        self.links[name] = link = await Link.open(self.hub.leaf_ports[server])
        self.stack.push_async_callback(link.close)
        return await (await self.node(name)).start(self.hub.leaf_url(link.port))

    async def at_hub(self, who: str | SpiffeId, nkey: Nkey | None = None, server: int | None = None) -> Connection:
        """A connection of a unit of the cloud, or of any member of the fleet; it knows all servers of the hub, or just
        the one that is named."""
        urls = self.hub.client_url.split(",")
        url = ",".join(urls if server is None else urls[server : server + 1])
        folder = await self.files(ids.cloud(TD, who) if isinstance(who, str) else who)
        return await self.connect(folder, url, ids.hub(TD), nkey)

    async def cloud(self, unit: str, server: int | None = None) -> Bus:
        """A bus of a unit of the cloud, open."""
        return await self.opened(await self.at_hub(unit, server=server), unit)

    async def edge(self, unit: str, node: str = NODE) -> Bus:
        """A bus of a unit on `node`, whose leaf runs, open."""
        return await self.nodes[node].bus(unit)

    async def environment(self, unit: str, node: str = NODE) -> Environment:
        """What a process of one unit on `node` gives it."""
        return await self.nodes[node].environment(unit)

    async def answer_callout(self, answers: Answers) -> None:
        """Let `answers` decide who comes in, beside whoever does already."""
        connection = await self.at_hub(SPIRE_INTEGRATION, self.keys.auth)
        await self.stack.enter_async_context(answering(connection, answers))


def admits(keys: HubKeys) -> Answers:
    return Admits(keys.issuer)


@asynccontextmanager
async def open_world(
    folder: Path, hub_servers: int = 1, answers: Deciding | None = admits, hub_files: Path | None = None
) -> AsyncIterator[World]:
    """A running hub that lets in whom `answers` does, which is given the hub's keys; None: nobody answers yet.

    The hub's identity is made by the built-in authority, unless it lies in `hub_files` already.
    """
    authority, keys, files = Builtin(folder / "authority", TD), HubKeys.ensure(folder / "keys"), hub_files
    if files is None:
        files = folder / HUB_FILES
        write_identity(files, await minted(authority, ids.hub(TD), dns=(NAME,)))
    trust = HubTrust(str(files / SVID_FILE), str(files / BUNDLE_FILE), *keys.public)
    async with AsyncExitStack() as stack:
        running = await hub(folder / "hub", servers=hub_servers, trust=trust)
        for server in running.servers:
            stack.push_async_callback(server.kill)
        world = World(folder, authority, stack, keys, trust, running)
        if answers is not None:
            await world.answer_callout(answers(keys))
        yield world


class Running(Protocol):
    """A unit."""

    async def run(self, started: Callable[[], None]) -> None: ...


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
