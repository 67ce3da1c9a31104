"""A hub of its own for tests with the real SPIRE: its identity is the SPIRE server's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from canopy.bus import Connection
from canopy.bus.trust import HubTrust
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import ids
from canopy.identity.hubkeys import HubKeys
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, write_identity
from canopy.identity.natsjwt import Nkey
from canopy.identity.sources import AuthoritySource, FileSource, Source
from canopy.identity.spire import Spire
from canopy.testing.admits import Admits, Answers, answering
from canopy.testing.servers import NAME, RunningHub, hub

TD = "canopy.test"


async def hub_of(
    tmp_path: Path, authority: Spire, stack: AsyncExitStack, answers: Callable[[HubKeys], Answers] | None = None
) -> RunningHub:
    """A hub whose identity is SPIRE's, with its callout answered: by `answers`, else whoever has a place is let in."""
    keys = HubKeys.ensure(tmp_path / "keys")
    for id, dns in ((ids.hub(TD), (NAME,)), (ids.cloud(TD, SPIRE_INTEGRATION), ())):
        source = AuthoritySource(authority, id, ttl_seconds=600, dns=dns)
        write_identity(tmp_path / id.segments[-1], await source.first())
    files = tmp_path / "hub"
    trust = HubTrust(str(files / SVID_FILE), str(files / BUNDLE_FILE), *keys.public)
    running = await hub(tmp_path / "nats", trust=trust)
    stack.push_async_callback(running.server.kill)
    auth = await connected(running, FileSource(tmp_path / SPIRE_INTEGRATION), stack, SPIRE_INTEGRATION, keys.auth)
    await stack.enter_async_context(answering(auth, answers(keys) if answers else Admits(keys.issuer)))
    return running


async def connected(
    running: RunningHub, source: Source, stack: AsyncExitStack, name: str, nkey: Nkey | None = None
) -> Connection:
    connection = await Connection.open(
        running.client_url,
        name=name,
        nkey_seed=nkey.seed if nkey else "",
        identity=source,
        expected=frozenset({ids.hub(TD)}),
    )
    stack.push_async_callback(connection.close, False)
    return connection


@asynccontextmanager
async def background(work) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def closing(thing):
    try:
        yield thing
    finally:
        await thing.close()
