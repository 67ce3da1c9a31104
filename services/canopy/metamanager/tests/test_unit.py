"""MetaManager and EdgeHub over a real hub and leaf, with a small CloudHub."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from canopy.bus import Bus, NoResponders, Place, Retry
from canopy.bus.config import EDGE
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.edgehub.settings import Settings as HubSettings
from canopy.edgehub.unit import EdgeHub
from canopy.metamanager.settings import Settings
from canopy.metamanager.unit import FILE, MetaManager
from canopy.runtime.clock import SystemClock
from canopy.store.errors import DatabaseCorrupt
from canopy.sync.down import Follower
from canopy.testing.cloud import FakeCloud, put
from canopy.testing.wait import until
from canopy.testing.world import NODE, World, open_world, running

pytestmark = pytest.mark.server
SETTINGS = Settings(check_seconds=1)


class Reader:
    """A unit of the node that reads the set."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.changes = bus, list[wire.SetChanged]()

    async def open(self) -> "Reader":
        await self.bus.hear(c.META_CHANGED, self._changed)
        return self

    async def _changed(self, word: wire.SetChanged, place: Place[Any]) -> None:
        self.changes.append(word)

    async def read(self) -> dict[str, str] | None:
        """Name -> digest, by the same pages as the link's; None while the set is not proven."""
        follower = Follower()
        try:
            while follower.passing:
                answer = await self.bus.ask(c.META_PAGE, follower.ask(most=3), timeout=5, channel="devices")
                change = follower.judge(answer)
                assert change is not None
                follower.commit(change)
                follower.after(answer, change)
        except (Retry, NoResponders):
            return None
        assert follower.proven
        return {e.name: e.digest for e in follower.entries}


def digests(*puts: wire.Put) -> dict[str, str]:
    return {p.entry.name: p.entry.digest for p in puts}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as opened:
        await opened.leaf()
        yield opened


async def _edgehub(world: World) -> EdgeHub:
    quick = HubSettings(ask_seconds=0.3)
    return EdgeHub(await world.environment("edgehub"), quick, SystemClock(), random.Random(1))


async def _meta(world: World, settings: Settings = SETTINGS) -> MetaManager:
    return MetaManager(await world.environment("metamanager"), settings, SystemClock(), random.Random(2))


async def _cloud(world: World) -> FakeCloud:
    return await FakeCloud(await world.cloud("cloudhub")).open()


async def _reader(world: World) -> Reader:
    return await Reader(await world.edge("mapper")).open()


async def _shows(reader: Reader, wanted: dict[str, str]) -> None:
    async def same() -> bool:
        return await reader.read() == wanted

    await until(same)


async def test_a_set_comes_down_in_pages_and_is_read_by_the_same_pages(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    puts = [put(f"d{i}", "x" * 500) for i in range(20)]
    cloud.want(*puts)
    cloud.page_bytes = 2000
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, digests(*puts))
        assert reader.changes[-1].hash == cloud.wanted.hash
    assert len(cloud.pages) > 5


async def test_a_body_arrives_as_it_was_sent(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    cloud.want(put("a.b", "é"))
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, digests(put("a.b", "é")))
        answer = await reader.bus.ask(c.META_PAGE, wire.PageAsk(), channel="devices")
        assert bytes(answer.puts[0].body) == bytes(put("a.b", "é").body)


async def test_a_push_is_there_at_once_and_said(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    a, b, b2 = put("a"), put("b"), put("b", "2")
    cloud.want(a, b)
    seldom = Settings(check_seconds=300)  # else the timer may bring it before the push does
    async with running(await _meta(world, seldom)), running(await _edgehub(world)):
        await _shows(reader, digests(a, b))
        pages = len(cloud.pages)
        cloud.want(b2)
        await cloud.push(NODE, b2, deletes=(a.entry.key,))
        await until(lambda: reader.changes and reader.changes[-1].hash == cloud.wanted.hash)
        assert await reader.read() == digests(b2)
        assert len(cloud.pages) - pages <= 1


async def test_a_push_that_was_lost_is_made_up_for_by_the_next_one(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, {})
        cloud.want(put("a"))  # its push is lost
        cloud.want(put("a"), put("b"))
        await cloud.push(NODE, put("b"))
        await _shows(reader, digests(put("a"), put("b")))


async def test_without_any_push_the_timer_brings_the_change(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, {})
        cloud.want(put("a"))
        await _shows(reader, digests(put("a")))


async def test_an_older_answer_changes_nothing(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    cloud.want(put("a"))
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, digests(put("a")))
        newest = cloud.as_of
        cloud.want()
        cloud.as_of = wire.AsOf(epoch=0, revisions={"Device": newest.revisions["Device"] - 1})
        count = len(cloud.pages)
        await cloud.push(NODE, deletes=(put("a").entry.key,))
        await until(lambda: len(cloud.pages) > count + 2)
        assert await reader.read() == digests(put("a"))
        cloud.as_of = wire.AsOf(epoch=1, revisions={"Device": 1})
        await _shows(reader, {})


async def test_while_the_link_is_cut_the_set_is_served_and_afterwards_it_is_made_equal(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    cloud.want(put("a"))
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, digests(put("a")))
        await world.links[NODE].cut()
        cloud.want(put("b"))
        assert await reader.read() == digests(put("a"))
        await world.links[NODE].join()
        began = asyncio.get_running_loop().time()
        await _shows(reader, digests(put("b")))
        assert asyncio.get_running_loop().time() - began < 10


async def test_after_a_start_offline_it_serves_what_it_has(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    cloud.want(put("a"))
    unit = await _meta(world)
    async with running(unit), running(await _edgehub(world)):
        await _shows(reader, digests(put("a")))
    await world.links[NODE].cut()
    async with running(unit):
        assert await reader.read() == digests(put("a"))


async def test_nothing_is_read_before_the_set_is_proven(world: World) -> None:
    reader = await _reader(world)
    unit = await _meta(world)
    async with running(unit):
        assert await reader.read() is None
    health = unit._env.health
    assert not health.ready


async def test_killed_between_pages_it_goes_on_and_shows_nothing_half(world: World) -> None:
    """A file that holds an unproven half set: not served, and made whole by the next pass."""
    cloud, reader = await _cloud(world), await _reader(world)
    puts = [put(f"d{i}", "x" * 500) for i in range(8)]
    cloud.want(*puts)
    async with running(await _meta(world)), running(await _edgehub(world)):
        await _shows(reader, digests(*puts))
    path = world.nodes[NODE].folder / "data" / FILE
    with sqlite3.connect(path) as file:
        file.execute("DELETE FROM objects WHERE name > 'd3'")
        file.execute("UPDATE channels SET proven = NULL")
    file.close()
    async with running(await _meta(world)):
        assert await reader.read() is None
        async with running(await _edgehub(world)):
            await _shows(reader, digests(*puts))


async def test_a_damaged_file_is_not_thrown_away(world: World) -> None:
    path = world.nodes[NODE].folder / "data" / FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database, but somebody's data" * 100)
    before = path.read_bytes()
    with pytest.raises(DatabaseCorrupt, match="aside"):
        async with running(await _meta(world)):
            raise AssertionError("it must not start")
    assert path.read_bytes() == before


async def test_folded_both_share_one_connection_and_one_user(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    cloud.want(put("a"))
    env = await world.environment(EDGE)
    edgehub = EdgeHub(env, HubSettings(), SystemClock(), random.Random(1))
    async with running(MetaManager(env, SETTINGS, SystemClock(), random.Random(2))), running(edgehub):
        await _shows(reader, digests(put("a")))
        await world.nodes[NODE].leaf.server.restart(kill=True)
        cloud.want(put("b"))
        await _shows(reader, digests(put("b")))
    assert {one.check for one in env.health.checks} == {"link", "devices"} and "canopy_edgehub_up" in env.metrics.text()


async def test_two_thousand_objects_are_there_within_seconds(world: World) -> None:
    cloud, reader = await _cloud(world), await _reader(world)
    puts = [put(f"d{i:04}", "x" * 1500) for i in range(2000)]
    cloud.want(*puts)
    began = asyncio.get_running_loop().time()
    async with running(await _meta(world)), running(await _edgehub(world)):
        await until(lambda: reader.changes and reader.changes[-1].hash == cloud.wanted.hash)
        seconds = asyncio.get_running_loop().time() - began
    print(f"2,000 objects in {seconds:.2f} s, {len(cloud.pages)} pages")
    assert seconds < 10
