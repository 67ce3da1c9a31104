"""spire_integration between a real hub and whoever wants in: one world for many checks, since it is slow to make."""

import ssl
import time

import pytest

from canopy.bus.streams import LastValues
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import NodesAsk
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.certificates import certificates
from canopy.identity.identity import read_identity
from canopy.runtime.clock import SystemClock
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.ended import Ended
from canopy.spire_integration.prepare import files_of
from canopy.spire_integration.tests.fleet import open_fleet
from canopy.testing.domain import TD, minted
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_who_has_the_fleets_certificate_comes_in_and_nobody_else_and_each_is_in_the_audit(tmp_path):
    async with open_fleet(tmp_path, hub_log=str(tmp_path / "hub" / "nats.log")) as fleet, fleet.replica() as env:
        unit, node = ids.cloud(TD, "cloudhub"), ids.node(TD, "edge-1")
        assert (await fleet.knock(await fleet.identity(unit))).is_in
        assert "Authorization" in (await fleet.knock(await fleet.identity(node))).said
        edge = await fleet.world.leaf("edge-1")
        admitted = await fleet.audit(env, what="admission", outcome="ok", who=str(node))
        assert admitted.where == "127.0.0.1" and admitted.serial and admitted.not_after > time.time() * 1000
        await fleet.audit(env, outcome="refused", who=str(node), reason="opens a leaf only")

        other = Builtin(tmp_path / "other", TD)
        assert not (await fleet.knock(None)).is_in
        assert not (await fleet.knock(await minted(other, unit))).is_in
        gone = await fleet.identity(unit, ttl_seconds=1)
        await until(lambda: time.time() > gone.svid.not_after)
        assert not (await fleet.knock(gone)).is_in
        for reason in ("no client certificate", "of another authority", "has ended"):
            assert (await fleet.audit(env, outcome="refused", reason=reason)).where == "127.0.0.1"
        assert edge.server.running and "canopy_spire_integration_callout_seconds_count" in env.metrics.text()


async def test_a_revoked_node_is_out_within_seconds_and_stays_out_until_it_is_let_in_again(tmp_path):
    async with open_fleet(tmp_path, servers=2) as fleet, fleet.replica() as env, fleet.replica() as other:
        bus, name = await fleet.world.cloud("cloudhub"), "edge-1"
        system = await fleet.system()

        async def is_in(node=name):
            return await system.connections(str(ids.node(TD, node)))

        async def is_out():
            return not await is_in()

        for node in (name, "edge-2"):
            await fleet.world.leaf(node)
            await until(lambda node=node: is_in(node))
        began = time.monotonic()
        await fleet.revoke(bus, name)
        await until(is_out)
        assert time.monotonic() - began < 10
        await fleet.audit(env, what="cut", who=str(ids.node(TD, name)))
        await fleet.audit(env, outcome="refused", reason="is revoked")
        assert (await fleet.audit(env, what="revocation", subject=name)).who == "an operator"
        (listed,) = (await bus.ask(c.IDENTITY_NODES, NodesAsk(), timeout=5)).nodes
        assert listed.node == name and listed.revoked_at and listed.revoked_by == "an operator"
        await until(lambda: is_in("edge-2"))  # a server that answers late is left out
        assert await is_out()
        await fleet.revoke(bus, name, restore=True)
        await until(is_in)
        revoked = [e.metrics.gauge("canopy_spire_integration_revoked") for e in (env, other)]
        await until(lambda: not any(gauge._read() for gauge in revoked))  # one of them let it in

        assert not (await fleet.knock(None)).is_in
        for replica in (env, other):
            stream = LastValues(replica.bus(SPIRE_INTEGRATION), "AUDIT")
            await Ended(system, stream, Counts.of(replica.metrics), SystemClock()).look()
        assert (await fleet.audit(env, reason="TLS: a Client")).where == "127.0.0.1"


async def test_the_hub_reads_its_renewed_certificate_and_who_was_in_stays(tmp_path):
    async with open_fleet(tmp_path, hub_ttl_seconds=12) as fleet, fleet.replica() as env:
        files, lost = files_of(fleet.settings, fleet.shared, fleet.authority, SystemClock()), []
        bus = await fleet.world.cloud("cloudhub")
        bus.connection.on_lost(lambda: lost.append("lost"))
        before = read_identity(files.root / "hub").svid.serial

        async def renewed():
            await files.turn()
            return read_identity(files.root / "hub").svid.serial != before

        await until(renewed)
        await until(lambda: not files.hub_is_behind())
        now = read_identity(files.root / "hub").svid
        await fleet.audit(env, what="rotation", who="/hub")
        assert (await fleet.audit(env, what="rotation", reason="read its certificate")).who == "hub"
        assert await _shown(fleet) == now.serial
        assert await bus.connection.client.flushed() and not lost


async def _shown(fleet) -> int:
    """The serial of the certificate that the hub shows to who comes."""
    guest = await fleet.knock(await fleet.identity(ids.cloud(TD, "cloudhub")))
    der = guest.writer.get_extra_info("ssl_object").getpeercert(True)
    return certificates(ssl.DER_cert_to_PEM_cert(der).encode())[0].serial_number
