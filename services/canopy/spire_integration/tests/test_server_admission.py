"""spire_integration between a real hub and whoever wants in: one world for many checks, since it is slow to make."""

import time

import pytest

from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import NodesAsk
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.spire_integration.tests.fleet import open_fleet
from canopy.testing.trusted import TD, minted
from canopy.testing.wait import until

pytestmark = pytest.mark.server


class Leaves:
    """Which leaves the hub has, by what their own logs say last of the link."""

    def __init__(self, fleet):
        self._fleet = fleet

    def connected(self, *leaves):
        return all(self._last(leaf) == "created" for leaf in leaves)

    @staticmethod
    def _last(leaf):
        words = {"Leafnode connection created": "created", "Leafnode connection closed": "closed"}
        said = [w for line in leaf.server.log.read_text().splitlines() for text, w in words.items() if text in line]
        return said[-1] if said else ""


async def test_who_has_the_fleets_certificate_comes_in_and_nobody_else_and_each_is_in_the_audit(tmp_path):
    async with open_fleet(tmp_path, hub_log=str(tmp_path / "hub" / "nats.log")) as fleet, fleet.replica() as env:
        unit, node = ids.cloud(TD, "cloudhub"), ids.node(TD, "edge-1")
        assert (await fleet.knock(await fleet.identity(unit))).is_in
        assert "Authorization" in (await fleet.knock(await fleet.identity(node))).said
        edge = await fleet.trusted.run_leaf(await fleet.trusted.node("edge-1"))
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
        bus, name = await fleet.trusted.cloud("cloudhub"), "edge-1"
        leaf = await fleet.trusted.run_leaf(await fleet.trusted.node(name))
        neighbour = await fleet.trusted.run_leaf(await fleet.trusted.node("edge-2"))
        leaves = Leaves(fleet)
        await until(lambda: leaves.connected(leaf, neighbour))
        began = time.monotonic()
        await fleet.revoke(bus, name)
        await until(lambda: not leaves.connected(leaf))
        assert time.monotonic() - began < 10
        await fleet.audit(env, what="cut", who=str(ids.node(TD, name)))
        await fleet.audit(env, outcome="refused", reason="is revoked")
        assert (await fleet.audit(env, what="revocation", subject=name)).who == "an operator"
        (listed,) = (await bus.ask(c.IDENTITY_NODES, NodesAsk(), timeout=5)).nodes
        assert listed.node == name and listed.revoked_at and listed.revoked_by == "an operator"
        assert leaves.connected(neighbour) and not leaves.connected(leaf)
        await fleet.revoke(bus, name, restore=True)
        await until(lambda: leaves.connected(leaf))
        assert {e.metrics.gauge("canopy_spire_integration_revoked")._read() for e in (env, other)} == {0}
