"""Rotations as the real SPIRE makes them, under load: certificates of connections, and roots of the trust domain."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from cryptography.x509 import AuthorityKeyIdentifier
from spire_hub import TD, background, closing, connected, hub_of

from canopy.bus import Connection
from canopy.contracts import catalogue as c
from canopy.identity import ids
from canopy.identity.authority import Entry
from canopy.identity.identity import Identity, read_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.sources import AuthoritySource, FileSource, Source
from canopy.identity.svid import certificates
from canopy.identity.tls import Rotating, client_context, server_context
from canopy.identity.workload import WorkloadApiSource
from canopy.testing import spire
from canopy.testing.servers import NAME
from canopy.testing.wait import until

pytestmark = [pytest.mark.spire, pytest.mark.timeout(300)]
AGENT = ids.node(TD, "agent-1")
ME = f"unix:uid:{os.getuid()}"
PRESENCE = c.PRESENCE.at(node="edge-1")
HUB = ids.hub(TD)
SAYS, HEARS = ids.cloud(TD, "cloudhub"), ids.cloud(TD, "edgecontroller")
ROTATIONS = 20
TTL_SECONDS = 16
"""The server puts the beginning 10 s back: half of the life is over after 3 s."""
SHORT_CA_SECONDS = 60


@pytest.fixture(autouse=True)
def built():
    if spire.programs() is None:
        pytest.skip(spire.MISSING)


async def test_twenty_rotations_of_both_ends_and_of_the_hub_lose_no_message_and_no_connection(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(spire.spire_server(tmp_path / "server", TD))
        authority = await stack.enter_async_context(closing(server.authority()))
        agent = await stack.enter_async_context(spire.spire_agent(tmp_path / "agent", server, AGENT))
        running = await hub_of(tmp_path, authority, stack)
        await authority.put(Entry(HUB, AGENT, (ME,), dns=(NAME,), ttl_seconds=TTL_SECONDS))
        await stack.enter_async_context(_helper(agent.socket, HUB, tmp_path / "hub", running.server.pid))
        connections = {}
        for id in (SAYS, HEARS):
            await authority.put(Entry(id, AGENT, (ME,), ttl_seconds=TTL_SECONDS))
            await stack.enter_async_context(_helper(agent.socket, id, tmp_path / id.segments[1]))
            source = FileSource(tmp_path / id.segments[1])
            connections[id] = await connected(running, source, stack, id.segments[1])
        first = read_identity(tmp_path / "hub").svid.serial

        def the_hub_has_rotated() -> bool:
            return running.server.log.read_text().count("Reloaded server configuration") >= ROTATIONS

        await _talk(connections[SAYS], connections[HEARS], the_hub_has_rotated)
        assert read_identity(tmp_path / "hub").svid.serial != first


async def _talk(says: Connection, hears: Connection, the_hub_has_rotated: Callable[[], bool]) -> None:
    """Say without a pause until all three have rotated often enough; all of it is heard, once, in order."""
    lost: list[str] = []
    heard: list[int] = []
    serials: dict[str, set[int]] = {"says": set(), "hears": set()}
    for name, connection in (("says", says), ("hears", hears)):
        connection.on_lost(lambda name=name: lost.append(name))

    async def take(message) -> None:
        heard.append(int(message.data))

    await hears.subscribe(PRESENCE, take)
    assert await hears.client.flushed()
    said = 0
    while min(map(len, serials.values())) <= ROTATIONS or not the_hub_has_rotated():
        said += 1
        await says.publish(PRESENCE, str(said).encode())
        for name, connection in (("says", says), ("hears", hears)):
            serials[name].add(connection.identity.svid.serial)
        await asyncio.sleep(0.002)
    with contextlib.suppress(TimeoutError):
        await until(lambda: len(heard) >= said, 10)
    missing = sorted(set(range(1, said + 1)) - set(heard))
    assert (missing[:9], len(missing), lost) == ([], 0, [])
    assert heard == sorted(heard) and len(heard) == said > 5_000


async def test_the_server_may_be_away_while_what_was_given_lasts(tmp_path: Path) -> None:
    """A connection outlives a dead SPIRE server and agent, and rotates again when they are back."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(spire.spire_server(tmp_path / "server", TD))
        authority = await stack.enter_async_context(closing(server.authority()))
        agent = await stack.enter_async_context(spire.spire_agent(tmp_path / "agent", server, AGENT))
        running = await hub_of(tmp_path, authority, stack)
        await authority.put(Entry(SAYS, AGENT, (ME,), ttl_seconds=60))
        await stack.enter_async_context(_helper(agent.socket, SAYS, tmp_path / "me"))
        connection = await connected(running, FileSource(tmp_path / "me"), stack, "cloudhub")
        before = connection.identity.svid.serial
        await server.kill()
        heard = asyncio.Event()
        connection.on_lost(heard.set)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(heard.wait(), 8)
        assert not heard.is_set() and connection.identity.svid.serial == before
        await server.start()
        await until(lambda: connection.identity.svid.serial != before, 90)
        assert not heard.is_set()


async def test_the_roots_of_the_real_server_change_and_everybody_is_believed_throughout(tmp_path: Path) -> None:
    """One end by the agent, the other by the server's API; they speak ten times a second for three roots."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            spire.spire_server(tmp_path / "server", TD, ca_ttl_seconds=SHORT_CA_SECONDS, svid_ttl_seconds=20)
        )
        authority = await stack.enter_async_context(closing(server.authority()))
        agent = await stack.enter_async_context(spire.spire_agent(tmp_path / "agent", server, AGENT))
        await authority.put(Entry(SAYS, AGENT, (ME,), ttl_seconds=TTL_SECONDS))
        by_agent = await stack.enter_async_context(closing(WorkloadApiSource(agent.socket)))
        by_api = AuthoritySource(authority, ids.hub(TD), ttl_seconds=TTL_SECONDS)
        first = await by_agent.first()
        ends = (
            server_context(await by_api.first(), {SAYS}),
            client_context(first, {ids.hub(TD)}),
        )
        seen: list[Identity] = [first, await by_api.first()]
        for source, context in zip((by_api, by_agent), ends, strict=True):
            await stack.enter_async_context(_following(source, context, seen))
        talks, deadline = 0, time.monotonic() + 4 * SHORT_CA_SECONDS
        while min(len(_signers(seen, id)) for id in (SAYS, ids.hub(TD))) < 3:
            assert await _greeting(*ends) == b"hello"
            talks += 1
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert talks > 100 and any(len(one.bundle.roots_pem) > 1 for one in seen)


def _signers(seen: list[Identity], id: SpiffeId) -> set[bytes]:
    """The roots that signed what `id` was given."""
    chains = [certificates(one.svid.chain_pem)[0] for one in seen if one.svid.id == id]
    return {one.extensions.get_extension_for_class(AuthorityKeyIdentifier).value.key_identifier for one in chains}


async def _greeting(server: Rotating, client: Rotating) -> bytes:
    async def greet(_reader, writer) -> None:
        writer.write(b"hello")
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with listening, asyncio.timeout(10):
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="")
        try:
            return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def _following(source: Source, context: Rotating, seen: list[Identity]) -> AsyncIterator[None]:
    async def follow() -> None:
        async for identity in source.changes():
            context.renew(identity)
            seen.append(identity)

    async with background(follow()):
        yield


@asynccontextmanager
async def _helper(socket: Path, id: SpiffeId, folder: Path, server: int = 0) -> AsyncIterator[None]:
    """canopy.identity.helper as a process; it tells a nats-server whose pid is given."""
    wanted = ["--socket", socket, "--dir", folder, "--id", id]
    if server:
        folder.with_suffix(".pid").write_text(str(server))
        wanted += ["--pid-file", folder.with_suffix(".pid")]
    helper = await asyncio.create_subprocess_exec(sys.executable, "-m", "canopy.identity.helper", *map(str, wanted))
    try:
        yield
    finally:
        helper.kill()
        await helper.wait()
