"""What breaks: replicas killed, the authority away, the hub's volume lost. Each with a real hub."""

import asyncio
import shutil
import socket
import time
from contextlib import AsyncExitStack

import pytest

from canopy.contracts import catalogue as c
from canopy.contracts.wire import Presence
from canopy.identity import ids
from canopy.spire_integration.tests.fleet import open_fleet
from canopy.testing.domain import TD
from canopy.testing.servers import HOST
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_a_killed_replica_is_not_noticed_and_without_any_who_is_in_stays_and_who_comes_waits(tmp_path):
    async with open_fleet(tmp_path) as fleet, AsyncExitStack() as first:
        killed = fleet.process("one")
        await asyncio.gather(killed.start(), first.enter_async_context(fleet.replica()))
        unit, talk = await fleet.identity(ids.cloud(TD, "edgecontroller")), await Talk.begin(fleet)
        await killed.kill()
        longest = 0.0
        for _ in range(20):
            began = time.monotonic()
            assert (await fleet.knock(unit)).is_in
            longest = max(longest, time.monotonic() - began)
        assert longest < 2, f"somebody waited {longest:.1f} s"

        await first.aclose()
        await talk.goes_on()
        folder = await fleet.world.files(ids.cloud(TD, "devicecontroller"))
        coming = asyncio.create_task(fleet.world.connect(folder, fleet.shared.nats_url, ids.hub(TD)))
        assert not (await fleet.knock(unit, seconds=1)).is_in
        await talk.goes_on()
        assert not coming.done()
        async with fleet.replica():
            assert (await asyncio.wait_for(coming, 20)).connected
            await talk.goes_on()
        assert talk.lost == 0


class Talk:
    """Two units that are connected already, and talk on. `lost` counts losses of their connections."""

    def __init__(self, says, hears):
        self._says, self._hears, self._heard, self.lost = says, hears, [], 0

    @classmethod
    async def begin(cls, fleet):
        self = cls(await fleet.world.cloud("cloudhub"), await fleet.world.cloud("edgecontroller"))
        for bus in (self._says, self._hears):
            bus.connection.on_lost(self._lost)
        await self._hears.hear(c.PRESENCE, self._hear)
        await self.goes_on()
        return self

    async def goes_on(self):
        count = len(self._heard)
        await self._says.say(c.PRESENCE, Presence(node="e", at=count, session=1), node="e")
        await until(lambda: len(self._heard) > count)

    async def _hear(self, message, place):
        self._heard.append(message)

    def _lost(self):
        self.lost += 1


async def test_while_the_authority_is_away_the_hub_goes_on_and_a_lost_volume_forgets_nobody(tmp_path):
    async with open_fleet(tmp_path) as fleet, fleet.replica() as env:
        unit = await fleet.identity(ids.cloud(TD, "cloudhub"))
        bus = await fleet.world.cloud("cloudhub")
        await fleet.world.leaf("edge-1")
        await fleet.revoke(bus, "edge-1")
        await fleet.revoke(bus, "edge-2")
        await fleet.revoke(bus, "edge-2", restore=True)
        (root,) = fleet.settings.builtin_dir.glob("root-*.pem")
        kept = root.read_bytes()
        root.write_bytes(b"broken")
        assert (await fleet.knock(unit)).is_in
        root.write_bytes(kept)

        server = fleet.world.hub.server
        await server.kill()
        shutil.rmtree(server.directory / "js")
        await server.start()
        await until(lambda: env.connection.connected)
        refused = env.metrics.counter("canopy_spire_integration_refusals_total")
        before = refused.value(why="revoked")
        await until(lambda: refused.value(why="revoked") > before)
        assert await (await fleet.system()).connections(str(ids.node(TD, "edge-1"))) == []
        async with fleet.replica() as other:
            await until(lambda: other.metrics.gauge("canopy_spire_integration_revoked")._read() == 1)
            await until(lambda: other.metrics.gauge("canopy_spire_integration_joined")._read() == 2)


async def test_a_replica_whose_join_port_is_taken_lets_in_all_the_same(tmp_path):
    async with open_fleet(tmp_path) as fleet, AsyncExitStack() as stack:
        taken = stack.enter_context(socket.create_server((HOST, 0)))
        env, started = await fleet.environment(stack), asyncio.Event()
        unit = fleet.unit(env, join_listen=f"{HOST}:{taken.getsockname()[1]}")
        task = asyncio.create_task(unit.run(started.set))
        try:
            await until(lambda: [check for check in env.health.checks if check.check == "joining" and not check.ok])
            assert (await fleet.knock(await fleet.identity(ids.cloud(TD, "cloudhub")))).is_in
            assert not started.is_set() and not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
