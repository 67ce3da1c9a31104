"""Streams of last values over a real hub."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from canopy.bus import jsapi
from canopy.bus.streams import Follow, LastValues, Value, WrongSequence
from canopy.contracts import catalogue as c
from canopy.testing.wait import until
from canopy.testing.world import NODE, OTHER, World

pytestmark = pytest.mark.server


def address(name: str, node: str = NODE) -> str:
    return c.TWINS.at(node=node, namespace="default", name=name)


async def twins(world: World, unit: str = "cloudhub") -> LastValues:
    values = LastValues(await world.cloud(unit), "TWINS")
    if unit == "cloudhub":
        await values.ensure()
    return values


async def test_a_subject_holds_its_last_value_written_by_compare_and_set(world: World) -> None:
    stream = await twins(world)
    assert await stream.get(address("a")) is None
    first = await stream.put(address("a"), b"1", 0)
    with pytest.raises(WrongSequence):
        await stream.put(address("a"), b"x", 0)
    second = await stream.put(address("a"), b"2", first)
    assert await stream.get(address("a")) == Value(address("a"), second, b"2")
    assert await stream.put(address("a"), b"3", None) > second


async def test_a_write_waits_a_moment_for_a_stream_that_is_only_just_being_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub of several servers knows it on one of them first."""
    monkeypatch.setattr(jsapi, "UNSERVED_SECONDS", 20.0)  # a busy machine may take longer than that to make one
    stream = LastValues(await world.cloud("cloudhub"), "TWINS")
    early = asyncio.create_task(stream.put(address("a"), b"1", 0))
    await asyncio.sleep(0.3)
    await stream.ensure()
    first = await early
    assert await stream.get(address("a")) == Value(address("a"), first, b"1")


async def test_a_name_with_dots_is_one_token(world: World) -> None:
    stream = await twins(world)
    await stream.put(address("a.b.c"), b"1", 0)
    found = await stream.under(c.TWINS.wild(node=NODE))
    assert [c.TWINS.tokens(v.subject) for v in found] == [{"node": NODE, "namespace": "default", "name": "a.b.c"}]


async def test_under_reads_the_last_of_every_subject_once(world: World) -> None:
    stream = await twins(world)
    assert await stream.under(c.TWINS.wild(node=NODE)) == []
    for i in range(300):
        await stream.put(address(f"d{i % 150}"), str(i).encode(), None)
    await stream.put(address("d0", OTHER), b"x", None)
    found = await stream.under(c.TWINS.wild(node=NODE))
    assert sorted(int(v.data) for v in found) == list(range(150, 300))


async def test_under_many_and_big_values_flows(world: World) -> None:
    stream = await twins(world)
    await asyncio.gather(*(stream.put(address(f"d{i}"), b"x" * 100_000, None) for i in range(100)))
    assert len(await stream.under(c.TWINS.wild(node=NODE))) == 100


async def test_a_purge_spares_what_came_later(world: World) -> None:
    stream = await twins(world)
    old = await stream.put(address("a"), b"1", 0)
    await stream.put(address("b"), b"1", 0)
    new = await stream.put(address("a"), b"2", old)
    controller = await twins(world, "devicecontroller")
    await controller.purge(address("a"), old)
    assert (await controller.get(address("a"))) == Value(address("a"), new, b"2")
    await controller.purge(address("a"), new)
    assert await controller.get(address("a")) is None and await controller.get(address("b"))


async def test_ensure_twice_leaves_what_is_there(world: World) -> None:
    stream = await twins(world)
    await stream.put(address("a"), b"1", 0)
    created = await stream.created()
    await stream.ensure()
    assert await stream.created() == created and await stream.get(address("a"))


class Copy:
    """What a follower holds."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.resets = 0
        self.caught_up = 0

    def reset(self) -> None:
        self.values.clear()
        self.resets += 1

    def take(self, value: Value) -> None:
        self.values[c.TWINS.tokens(value.subject)["name"]] = value.data  # type: ignore[index]

    def full(self) -> None:
        self.caught_up += 1


@asynccontextmanager
async def following(stream: LastValues) -> AsyncIterator[Copy]:
    copy = Copy()
    follow = Follow(stream, c.TWINS.wild(), on_reset=copy.reset, on_value=copy.take, on_caught_up=copy.full)
    task = asyncio.create_task(follow.run())
    try:
        yield copy
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_follow_brings_what_is_there_and_what_comes(world: World) -> None:
    stream = await twins(world)
    await stream.put(address("a"), b"1", 0)
    async with following(await twins(world, "devicecontroller")) as copy:
        await until(lambda: copy.caught_up)
        assert copy.values == {"a": b"1"}
        await stream.put(address("b"), b"2", 0)
        await until(lambda: copy.values == {"a": b"1", "b": b"2"})
    assert (copy.resets, copy.caught_up) == (1, 1)


async def test_follow_waits_for_a_stream_that_is_not_there_yet(world: World) -> None:
    async with following(await twins(world, "devicecontroller")) as copy:
        stream = await twins(world)
        await stream.put(address("a"), b"1", 0)
        await until(lambda: copy.values == {"a": b"1"})


async def test_follow_begins_again_after_the_server_lost_its_data(world: World) -> None:
    stream = await twins(world)
    await stream.put(address("a"), b"1", 0)
    async with following(await twins(world, "devicecontroller")) as copy:
        await until(lambda: copy.caught_up)
        await world.hub.server.kill()
        shutil.rmtree(world.folder / "hub" / "js")
        await world.hub.server.start()
        await stream.ensure()
        await stream.put(address("b"), b"2", 0)
        await until(lambda: copy.values == {"b": b"2"})
        assert copy.resets >= 2


async def test_follow_begins_again_after_a_restart_and_goes_on(world: World) -> None:
    stream = await twins(world)
    await stream.put(address("a"), b"1", 0)
    async with following(await twins(world, "devicecontroller")) as copy:
        await until(lambda: copy.caught_up)
        await world.hub.server.restart()
        await until(lambda: copy.caught_up >= 2 and stream.bus.connection.connected)
        await stream.put(address("b"), b"2", 0)
        await until(lambda: copy.values == {"a": b"1", "b": b"2"})
