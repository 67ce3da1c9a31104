"""What breaks: replicas killed, the authority away, the hub's volume lost. Each with a real hub."""

import asyncio
import shutil
import time

import pytest

from canopy.contracts import catalogue as c
from canopy.contracts.wire import Presence
from canopy.identity import ids
from canopy.spire_integration.tests.fleet import open_fleet
from canopy.testing.trusted import TD
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_a_killed_replica_is_not_noticed_and_without_any_who_is_in_stays_and_who_comes_waits(tmp_path):
    async with open_fleet(tmp_path) as fleet:
        one, two = fleet.process("one"), fleet.process("two")
        await asyncio.gather(one.start(), two.start())
        unit = await fleet.identity(ids.cloud(TD, "edgecontroller"))
        bus, hearing = await fleet.trusted.cloud("cloudhub"), await fleet.trusted.cloud("edgecontroller")
        heard = []

        async def hear(message, place):
            heard.append(message.at)

        async def talks():
            count = len(heard)
            await bus.say(c.PRESENCE, Presence(node="e", at=count, session=1), node="e")
            await until(lambda: len(heard) > count)

        await hearing.hear(c.PRESENCE, hear)
        await talks()
        await one.kill()
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert (await fleet.knock(unit)).is_in
            longest = max(longest, time.monotonic() - began)
        assert longest < 2, f"somebody waited {longest:.1f} s"

        await two.kill()
        await talks()
        folder = await fleet.trusted.files(fleet.authority, ids.cloud(TD, "devicecontroller"))
        coming = asyncio.create_task(fleet.trusted.connect(folder, fleet.shared.nats_url, ids.hub(TD)))
        assert not (await fleet.knock(unit, seconds=1.5)).is_in
        await talks()
        assert not coming.done()
        await one.start()
        assert (await asyncio.wait_for(coming, 20)).connected
        await talks()
        assert not bus.connection._failures and bus.connection.connected


async def test_while_the_authority_is_away_the_hub_goes_on_and_a_lost_volume_lets_no_revoked_node_in(tmp_path):
    async with open_fleet(tmp_path) as fleet, fleet.replica() as env:
        unit = await fleet.identity(ids.cloud(TD, "cloudhub"))
        bus = await fleet.trusted.cloud("cloudhub")
        await fleet.trusted.run_leaf(await fleet.trusted.node("edge-1"))
        await fleet.revoke(bus, "edge-1")
        (root,) = fleet.settings.builtin_dir.glob("root-*.pem")
        kept = root.read_bytes()
        root.write_bytes(b"broken")
        assert (await fleet.knock(unit)).is_in
        root.write_bytes(kept)

        server = fleet.trusted.hub.server
        await server.kill()
        shutil.rmtree(server.directory / "js")
        await server.start()
        await until(lambda: env.connection.connected)
        refused = env.metrics.counter("canopy_spire_integration_refusals_total")
        before = refused.value(why="revoked")
        await until(lambda: refused.value(why="revoked") > before)
        assert await (await fleet.system()).connections(str(ids.node(TD, "edge-1"))) == []
        async with fleet.replica() as other:
            assert other.metrics.gauge("canopy_spire_integration_revoked")._read() == 1
