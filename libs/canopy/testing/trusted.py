"""A hub and leaves with certificates on every connection: what tests of identity open, and the benches of admissions.

The fleet's authority and each node's own are built-in ones, as in the demo. Who answers the hub's callout is given:
the real spire_integration's decision, or, where no unit may be imported, `Admits`, which knows no revocation.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from canopy.bus import Bus, Connection, admission
from canopy.bus.admission import Admitted
from canopy.bus.callout import Callout
from canopy.bus.rights import Permissions
from canopy.bus.trust import HubTrust, LeafTrust
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import ids, natsjwt
from canopy.identity.builtin import Builtin
from canopy.identity.hubkeys import HubKeys
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, Identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.natsjwt import Nkey
from canopy.identity.sources import FileSource
from canopy.identity.svid import Svid, certificates, chain_id, make_csr, new_key
from canopy.runtime.clock import SystemClock
from canopy.runtime.telemetry import Telemetry
from canopy.testing.child import HOST
from canopy.testing.servers import NAME, Link, RunningHub, RunningLeaf, hub, leaf

TD = "canopy.test"
LONG_SECONDS = 3600.0
Answers = Callable[[bytes], bytes | None]


class AtOnce(random.Random):
    """A connection takes a newer certificate as soon as it sees one, in place of within some seconds."""

    def uniform(self, a: float, b: float) -> float:
        return a


async def minted(
    authority: Builtin, id: SpiffeId, ttl_seconds: float = LONG_SECONDS, dns: tuple[str, ...] = (), ip: bool = False
) -> Identity:
    """An identity of `id` under `authority`, with a key of its own; `ip`: it is a server on loopback."""
    key, ips = new_key(), (HOST,) if ip else ()
    made = await authority.mint(make_csr(key, id, dns), id, ttl_seconds=ttl_seconds, dns=dns, ips=ips)
    return Identity(Svid.of(made.chain_pem, key), await authority.bundle())


@dataclass(frozen=True, slots=True)
class Admits:
    """Lets in by the verified certificate whoever `canopy.bus.admission` has a place for; and whoever calls itself by a
    name in `more`, where a test needs somebody who sees and may everything."""

    issuer: Nkey
    td: str = TD
    more: Mapping[str, Admitted] = field(default_factory=dict)

    def __call__(self, data: bytes) -> bytes:
        request = natsjwt.read_request(data)
        member = ids.member(self.td, chain_id(request.chain_pem)) if request.chain_pem else None
        place = self.more.get(request.name) or (admission.rights(member) if member else None)
        now = int(time.time())
        about = (self.issuer.seed, request.server_id, request.user_nkey)
        if member is None or place is None:
            return natsjwt.callout_answer(*about, error="refused", now=now).encode()
        jwt = natsjwt.user_jwt(
            self.issuer.seed,
            request.user_nkey,
            place.account,
            name=f"node/{member.name}" if member.kind == "node" else "",  # as spire_integration does
            publish=place.rights.publish,
            subscribe=place.rights.subscribe,
            responses=place.rights.responses,
            expires_at=int(certificates(request.chain_pem)[0].not_valid_after_utc.timestamp()),
            now=now,
        )
        return natsjwt.callout_answer(*about, jwt=jwt, now=now).encode()


@dataclass
class Node:
    """One node: its own authority, the files of its leaf, and the leaf, if it runs."""

    name: str
    folder: Path
    authority: Builtin
    trust: LeafTrust
    leaf: RunningLeaf | None = None

    def id(self, unit: str) -> SpiffeId:
        return ids.local(TD, self.name, unit)

    def with_devices(self, *devices: tuple[SpiffeId, Permissions]) -> None:
        """For the next start, or after `reload`."""
        self.trust = replace(self.trust, devices=tuple((str(id), rights) for id, rights in devices))


@dataclass
class Trusted:
    """A fleet with a hub that runs. Every connection opened here is closed in the end."""

    folder: Path
    authority: Builtin
    keys: HubKeys
    trust: HubTrust
    stack: AsyncExitStack
    hub: RunningHub
    nodes: dict[str, Node] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    async def files(self, authority: Builtin, id: SpiffeId, ttl_seconds: float = LONG_SECONDS) -> Path:
        """A folder with an identity of `id`, written (again) now."""
        folder = self.folder / "identities" / id.trust_domain / id.path.strip("/").replace("/", "-")
        write_identity(folder, await minted(authority, id, ttl_seconds))
        return folder

    async def connect(
        self, identity: Path, url: str, peer: SpiffeId, nkey: Nkey | None = None, name: str = ""
    ) -> Connection:
        """A connection by the identity in a folder, to a server that must be `peer`."""
        connection = await Connection.open(
            url,
            name=name or identity.name,
            nkey_seed=nkey.seed if nkey else "",
            identity=FileSource(identity),
            expected=frozenset({peer}),
            rng=AtOnce(),
        )
        self.stack.push_async_callback(connection.close, False)
        return connection

    async def at_hub(self, unit: str, nkey: Nkey | None = None, ttl_seconds: float = LONG_SECONDS) -> Connection:
        """A connection of a cloud unit."""
        folder = await self.files(self.authority, ids.cloud(TD, unit), ttl_seconds)
        return await self.connect(folder, self.hub.client_url, ids.hub(TD), nkey)

    async def cloud(self, unit: str) -> Bus:
        """A bus of a unit of the cloud, open."""
        return await self._bus(await self.at_hub(unit), unit)

    async def at_leaf(self, node: Node, id: SpiffeId, ttl_seconds: float = LONG_SECONDS) -> Connection:
        """A connection to the leaf of `node`, which runs, as somebody of that node."""
        assert node.leaf is not None
        folder = await self.files(node.authority, id, ttl_seconds)
        return await self.connect(folder, node.leaf.client_url, node.id("leaf"))

    async def edge(self, node: Node, unit: str) -> Bus:
        """A bus of a unit on `node`, whose leaf runs, open."""
        return await self._bus(await self.at_leaf(node, node.id(unit)), unit, node.name if unit == "edgehub" else "")

    async def node(self, name: str) -> Node:
        """A node with its files, its leaf not yet started."""
        folder = self.folder / "nodes" / name
        authority = Builtin(folder / "authority", ids.node_domain(TD, name))
        write_identity(folder / "link", await minted(self.authority, ids.node(TD, name)))
        write_identity(folder / "leaf", await minted(authority, ids.local(TD, name, "leaf"), dns=(NAME,), ip=True))
        listener, link = (
            (str(folder / which / SVID_FILE), str(folder / which / BUNDLE_FILE)) for which in ("leaf", "link")
        )
        self.nodes[name] = node = Node(name, folder, authority, LeafTrust(name, TD, *listener, *link))
        return node

    async def run_leaf(self, node: Node) -> RunningLeaf:
        """Start its leaf, joined to the hub through a Link of its own."""
        self.links[node.name] = link = await Link.open(self.hub.leaf_port)
        self.stack.push_async_callback(link.close)
        url = self.hub.leaf_url(node.name, link.port)
        node.leaf = await leaf(node.folder / "server", node.name, url, trust=node.trust)
        self.stack.push_async_callback(node.leaf.server.kill)
        return node.leaf

    def reload(self, node: Node) -> None:
        """Let its leaf take what `node.trust` says now."""
        assert node.leaf is not None and node.leaf.config is not None
        node.leaf.server.configure(replace(node.leaf.config, trust=node.trust).text())
        node.leaf.server.reload()

    async def _bus(self, connection: Connection, unit: str, node: str = "") -> Bus:
        bus = Bus(connection, unit, Telemetry(unit, enabled=False), node)
        self.stack.push_async_callback(bus.close)
        await bus.open()
        return bus

    async def answer_callout(self, answers: Answers) -> None:
        """Let `answers` decide who comes in, beside whoever does already."""
        connection = await self.at_hub(SPIRE_INTEGRATION, self.keys.auth)
        callout = Callout(connection, answers, SystemClock(), lambda: None)
        await self.stack.enter_async_context(_running(callout))


@asynccontextmanager
async def _running(callout: Callout) -> AsyncIterator[None]:
    task = asyncio.create_task(callout.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def open_trusted(
    folder: Path, answers: Callable[[HubKeys], Answers] = lambda keys: Admits(keys.issuer), servers: int = 1
) -> AsyncIterator[Trusted]:
    """A running hub that lets in whom `answers` does; it is given the hub's keys."""
    authority, keys = Builtin(folder / "authority", TD), HubKeys.ensure(folder / "keys")
    files = folder / "hub-identity"
    write_identity(files, await minted(authority, ids.hub(TD), dns=(NAME,)))
    trust = HubTrust(str(files / SVID_FILE), str(files / BUNDLE_FILE), *keys.public)
    async with AsyncExitStack() as stack:
        running = await hub(folder / "hub", servers=servers, trust=trust)
        for server in running.servers:
            stack.push_async_callback(server.kill)
        world = Trusted(folder, authority, keys, trust, stack, running)
        await world.answer_callout(answers(keys))
        yield world
