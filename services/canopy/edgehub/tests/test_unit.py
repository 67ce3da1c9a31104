"""EdgeHub over a real hub and leaf, with a small CloudHub that can fall silent, refuse, and be cut off."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from canopy.bus import Bus, Place, Reject, Retry
from canopy.bus.healths import HealthSender
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.edgehub.settings import Settings
from canopy.edgehub.unit import EdgeHub
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.testing.cloud import FakeCloud, put
from canopy.testing.wait import until
from canopy.testing.world import NODE, World, open_world, running

pytestmark = pytest.mark.server
QUICK = Settings(ask_seconds=0.3, labels={"site": "a"}, compare_seconds=1)


class Edge:
    """What the units of the node hear and say."""

    def __init__(self, meta: Bus, twin: Bus) -> None:
        self.meta, self.twin = meta, twin
        self.links: list[wire.LinkState] = []
        self.pushes: list[wire.Push] = []
        self.wants: list[str] = []
        self.summary = wire.Summary(hash="h1", pending=0)

    async def open(self) -> "Edge":
        await self.meta.hear(c.LINK, self._link)
        await self.meta.hear(c.HUB_PUSH, self._push)
        await self.twin.hear(c.HUB_WANT, self._want)
        await self.twin.serve(c.TWIN_SUMMARY, self._summary)
        return self

    @property
    def up(self) -> bool:
        return bool(self.links) and self.links[-1].up

    async def page(self, ask: wire.PageAsk | None = None) -> wire.PageAnswer:
        return await self.meta.ask(c.HUB_PAGE, ask or wire.PageAsk(), channel="devices", timeout=5)

    async def report(self) -> wire.ReportResults:
        return await self.twin.ask(c.HUB_REPORT, wire.ReportBatch(), timeout=5)

    async def _link(self, state: wire.LinkState, place: Place[Any]) -> None:
        self.links.append(state)

    async def _push(self, push: wire.Push, place: Place[Any]) -> None:
        self.pushes.append(push)

    async def _want(self, _: wire.Nothing, place: Place[Any]) -> None:
        self.wants.append(place["channel"])

    async def _summary(self, _: wire.Nothing, place: Place[Any]) -> wire.Summary:
        return self.summary


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.leaf()
        yield opened


async def _edgehub(world: World, seed: int = 1) -> EdgeHub:
    return EdgeHub(await world.environment("edgehub"), QUICK, SystemClock(), random.Random(seed))


async def _parts(world: World) -> tuple[FakeCloud, Edge]:
    cloud = await FakeCloud(await world.cloud("cloudhub")).open()
    return cloud, await Edge(await world.edge("metamanager"), await world.edge("devicetwin")).open()


async def test_it_says_hello_beats_and_says_that_the_link_is_up(world: World) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up and len({b.n for b in cloud.beats}) > 2)
        assert cloud.hellos[0].labels == {"site": "a"} and cloud.hellos[0].version
        numbers = [b.n for b in cloud.beats]  # an answer that comes late on a busy machine makes a repeat
        assert numbers == sorted(numbers) and len(set(numbers)) > 2 and cloud.beats[0].hash == "h1"
        assert {b.session for b in cloud.beats} == {edge.links[-1].session}


async def test_a_beat_carries_the_health_of_every_unit_of_the_node_and_what_waits(world: World) -> None:
    cloud, edge = await _parts(world)
    edge.summary = wire.Summary(hash="h1", pending=3)
    mapper, health = await world.edge("mapper"), Health("mapper")
    health.tell("protocol", lambda: "modbus")
    health.set("running", False, "crashed: OSError: no such port")
    async with running(await _edgehub(world)):
        await HealthSender(mapper, health, SystemClock()).look()

        def told() -> dict[str, str]:
            return cloud.beats[-1].health if cloud.beats else {}

        await until(lambda: told().get("mapper") == "running: crashed: OSError: no such port")
        said = {one.unit: one for one in cloud.beats[-1].units}
        assert said["mapper"].facts == {"protocol": "modbus"} and cloud.beats[-1].pending == 3
        assert said["edgehub"].checks and told()["edgehub"] == "ok"


async def test_asks_go_up_stamped_and_their_answers_come_back_as_they_are(world: World) -> None:
    cloud, edge = await _parts(world)
    cloud.want(put("a"), put("b"))
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        answer = await edge.page()
        assert [p.entry.name for p in answer.puts] == ["a", "b"] and bytes(answer.puts[0].body) == bytes(put("a").body)
        await edge.report()
        stamps = [(a.session, a.n) for a in (cloud.pages[0], cloud.reports[0])]
        assert stamps[0] < stamps[1] and stamps[0][0] == cloud.sessions[NODE]
        with pytest.raises(Reject, match="400"):
            await edge.meta.ask_raw(c.HUB_PAGE, b"[1]", channel="devices")


async def test_fields_that_it_does_not_know_are_passed_on(world: World) -> None:
    _, edge = await _parts(world)
    seen: list[dict[str, Any]] = []
    other = await world.cloud("cloudhub")

    async def raw(body: bytes, place: Place[Any]) -> bytes:
        seen.append(json.loads(body))
        return b'{"results":[],"later":[1]}'

    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        await other.serve_raw(c.REPORT, raw)

        async def later() -> bool:
            answer = await edge.twin.ask_raw(c.HUB_REPORT, b'{"reports":[],"newer":{"a":[1.50]}}', timeout=5)
            return json.loads(answer).get("later") == [1]

        await until(later)
    assert seen[0]["newer"] == {"a": [1.5]} and seen[0]["n"] > 0


async def test_pushes_with_this_sessions_nonce_are_handed_on_and_no_others(world: World) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        await cloud.push(NODE, put("old"), nonce="n0")
        await cloud.push(NODE, put("new"))
        await until(lambda: edge.pushes)
        assert [p.puts[0].entry.name for p in edge.pushes] == ["new"]


async def test_a_hash_that_differs_makes_devicetwin_page(world: World) -> None:
    cloud, edge = await _parts(world)
    cloud.wants_page = True
    async with running(await _edgehub(world)):
        await until(lambda: edge.wants)
    assert edge.wants[0] == "twins"


async def test_while_states_wait_the_hash_is_left_out_until_it_is_time(world: World) -> None:
    cloud, edge = await _parts(world)
    edge.summary = wire.Summary(hash="h2", pending=5)
    async with running(await _edgehub(world)):
        await until(lambda: len(cloud.beats) > 1)
        assert cloud.beats[0].hash is None
        await until(lambda: any(b.hash == "h2" for b in cloud.beats))


async def test_a_cut_link_is_said_at_once_and_its_return_within_seconds(world: World) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        await world.links[NODE].cut()
        await until(lambda: not edge.up)
        with pytest.raises(Retry):
            await edge.page()
        first = cloud.sessions[NODE]
        await world.links[NODE].join()
        began = asyncio.get_running_loop().time()
        await until(lambda: edge.up)
        assert asyncio.get_running_loop().time() - began < 10
        assert cloud.sessions[NODE] > first and cloud.hellos[-1].seen == first


async def test_a_half_open_link_is_noticed_by_silence(world: World) -> None:
    _, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        world.links[NODE].freeze()
        await until(lambda: not edge.up)
        await world.links[NODE].join()
        await until(lambda: edge.up)


async def test_a_silent_cloud_is_no_cloud_and_asks_are_told_to_come_later(world: World) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        cloud.silent = True
        with pytest.raises(Retry):
            await edge.page()
        await until(lambda: not edge.up)
        cloud.silent = False
        await until(lambda: edge.up)


async def test_a_repeat_bears_the_same_stamp(world: World) -> None:
    cloud, edge = await _parts(world)
    cloud.beat_seconds = 60
    async with running(await _edgehub(world)):
        await until(lambda: edge.up and cloud.beats)
        cloud.silent = True
        asking = asyncio.create_task(edge.report())
        await until(lambda: cloud.reports)
        cloud.silent = False
        await asking
        assert len(cloud.reports) > 1 and len({(r.session, r.n) for r in cloud.reports}) == 1


async def test_told_to_say_hello_again_it_does(world: World) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world)):
        await until(lambda: edge.up)
        cloud.sessions[NODE] -= 1  # the hub lost its last seconds
        await until(lambda: len(cloud.hellos) > 1)
        await until(lambda: edge.up and edge.links[-1].session == cloud.sessions[NODE])
        await edge.page()


async def test_two_with_one_identity_supersede_each_other_ever_more_seldom(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    cloud, edge = await _parts(world)
    async with running(await _edgehub(world, 1)), running(await _edgehub(world, 2)):
        await until(lambda: len([r for r in caplog.records if "identity" in r.getMessage()]) >= 3)
        assert edge.links
    assert len(cloud.hellos) < 12


async def test_a_busy_cloud_is_asked_again_when_it_said(world: World) -> None:
    cloud, edge = await _parts(world)
    cloud.verdict = "busy"
    async with running(await _edgehub(world)):
        await until(lambda: len(cloud.hellos) > 2)
        assert not edge.up
        cloud.verdict = "ok"
        await until(lambda: edge.up)
        cloud.verdict = "busy"
        with pytest.raises(Retry, match="busy"):
            await edge.page()
        cloud.verdict = "ok"
        await edge.page()


async def test_it_starts_before_the_cloud_and_outlives_its_leaf(world: World) -> None:
    edge = await Edge(await world.edge("metamanager"), await world.edge("devicetwin")).open()
    async with running(await _edgehub(world)):
        await until(lambda: edge.links)
        assert not edge.up
        cloud = await FakeCloud(await world.cloud("cloudhub")).open()
        await until(lambda: edge.up)
        await world.nodes[NODE].leaf.server.restart(kill=True)
        count = len(cloud.beats)
        await until(lambda: len(cloud.beats) > count + 2)
        await until(lambda: edge.up)


async def test_run_may_be_called_again(world: World) -> None:
    _, edge = await _parts(world)
    unit = await _edgehub(world)
    async with running(unit):
        await until(lambda: edge.up)
        first = edge.links[-1].session
    edge.links.clear()
    async with running(unit):
        await until(lambda: edge.up)
        assert edge.links[-1].session > first
