"""Joining and renewing with the real SPIRE server as the authority, at the endpoint, by the node's own client."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from canopy.contracts.identity_wire import TokenAsk
from canopy.identity import joinroot
from canopy.identity.authority import AuthorityAway
from canopy.identity.chains import verify_chain
from canopy.identity.join import Credential, join, renew
from canopy.identity.joining_http import JoinRefused
from canopy.identity.joining_words import parse
from canopy.identity.joinstate import JoinState
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.metrics import Counter
from canopy.spire_integration.adapters.door import Door
from canopy.spire_integration.adapters.http import Endpoint
from canopy.spire_integration.joining import Joining
from canopy.spire_integration.joining_limits import Limits
from canopy.spire_integration.joining_proofs import Rules
from canopy.spire_integration.tests.joining_world import TD, Memory
from canopy.testing import spire

pytestmark = [pytest.mark.server, pytest.mark.spire, pytest.mark.xdist_group("spire")]
TTL = 60


async def test_a_node_joins_and_renews_and_what_it_gets_is_spires(tmp_path: Path) -> None:
    if spire.programs() is None:
        pytest.skip(spire.MISSING)
    clock = SystemClock()
    root = joinroot.at(tmp_path / "keys", TD, clock.now_ms() / 1000)
    context = joinroot.server_context(joinroot.endpoint(root, TD, clock.now_ms() / 1000))
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(spire.spire_server(tmp_path / "spire", TD))
        authority = server.authority()
        stack.push_async_callback(authority.close)
        streams = (Memory(), Memory())
        audit = AuditLog("spire_integration").record
        joining = Joining(Rules(TD, TTL, 600), root, authority, streams, audit, clock)
        app = Endpoint(joining, Limits(100, 100), clock, Counter("asked_total", "", "counter")).app()
        door = await stack.enter_async_context(Door(app, context, "127.0.0.1:0"))
        token = parse((await joining.token(TokenAsk(node="edge-1"))).token)
        way = ("edge-1", (door.url,), root.fingerprint, Credential(token.id, token.secret))
        first = await join(tmp_path / "node", *way)
        second = await renew(JoinState.read(tmp_path / "node"))
        bundle = await authority.bundle()
        for identity in (first, second):
            now = clock.now_ms() / 1000
            assert str(verify_chain(identity.svid.chain_pem, bundle, now)) == f"spiffe://{TD}/node/edge-1"
            assert 0 < identity.left_seconds(now) <= TTL + 1
        assert first.svid.serial != second.svid.serial
        await server.kill()
        with pytest.raises(JoinRefused) as refused:
            async with asyncio.timeout(30):
                await renew(JoinState.read(tmp_path / "node"))
        assert (refused.value.error, refused.value.passes) == ("away", True)
        with pytest.raises(AuthorityAway):
            await authority.bundle()
