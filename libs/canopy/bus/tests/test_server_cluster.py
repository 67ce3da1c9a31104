"""A hub of three servers: what holds on one holds between them, and a stream outlives the server that leads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from canopy.bus import AskFailed, Bus, Place
from canopy.bus.jsapi import StreamError, call
from canopy.bus.streams import Follow, LastValues, Value, WrongSequence
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.testing.wait import until
from canopy.testing.world import NODE, OTHER, World, open_world

pytestmark = pytest.mark.server
SERVERS = 3
ELECTION_SECONDS = 30.0
"""Raft waits 4 to 9 s before it elects; a busy machine longer."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path, hub_servers=SERVERS) as opened:
        yield opened


@asynccontextmanager
async def following(follow: Follow) -> AsyncIterator[None]:
    task = asyncio.create_task(follow.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def address(name: str) -> str:
    return c.TWINS.at(node=NODE, namespace="default", name=name)


async def test_the_link_goes_across_the_servers_and_every_node_hears_only_its_own(world: World) -> None:
    hub = await world.cloud("cloudhub", server=0)
    heard: dict[str, list[str]] = {NODE: [], OTHER: []}

    async def greet(hello: wire.Hello, place: Place[Any]) -> wire.HelloAnswer:
        return wire.HelloAnswer(session=7, nonce=f"of-{place['node']}")

    await hub.serve(c.HELLO, greet)
    edges = []
    for server, node in ((1, NODE), (2, OTHER)):
        await world.leaf(node, server)
        edges.append(edge := await world.edge("edgehub", node))

        async def hear(push: wire.Push, place: Place[Any], node: str = node) -> None:
            heard[node].append(push.hash)

        await edge.hear(c.PUSH, hear)
        await until(lambda edge=edge, node=node: _greeted(edge, node))
    for node in (NODE, OTHER, NODE):
        push = wire.Push(as_of=wire.AsOf(epoch=1, revisions={}), hash=node)
        await hub.say(c.PUSH, push, node=node, nonce="n", channel="devices")
    await until(lambda: len(heard[NODE]) == 2 and heard[OTHER])
    assert heard == {NODE: [NODE, NODE], OTHER: [OTHER]}


async def _greeted(edge: Bus, node: str) -> bool:
    """The hello is answered as that of this node."""
    try:
        answer = await edge.ask(c.HELLO, wire.Hello(), node=node, timeout=0.3)
    except AskFailed:
        return False
    return answer.nonce == f"of-{node}"


async def test_a_stream_gets_its_copies_and_goes_on_by_compare_and_set_when_its_leader_dies(world: World) -> None:
    bus = await world.cloud("cloudhub")
    stream = LastValues(bus, "TWINS")
    await stream.ensure()
    first = await stream.put(address("a"), b"1", 0)
    await stream.ensure(replicas=SERVERS)
    await until(lambda: _copies(bus), ELECTION_SECONDS)
    seen: list[bytes] = []
    follow = Follow(
        LastValues(await world.cloud("devicecontroller"), "TWINS"),
        c.TWINS.wild(),
        on_reset=lambda: None,
        on_value=lambda value: seen.append(value.data),
    )
    async with following(follow):
        await until(lambda: seen)
        assert set(seen) == {b"1"}
        leader = (await call(bus, "STREAM.INFO.TWINS"))["cluster"]["leader"]
        await next(s for s in world.hub.servers if s.directory.name == leader).kill()
        second = await until(lambda: _put(stream, b"2", first), ELECTION_SECONDS)
        with pytest.raises(WrongSequence):
            await stream.put(address("a"), b"x", first)
        assert await stream.get(address("a")) == Value(address("a"), second, b"2")
        await until(lambda: seen[-1] == b"2", ELECTION_SECONDS)


async def _copies(bus: Bus) -> bool:
    """While a leader of them is elected nobody answers for the stream."""
    try:
        cluster = (await call(bus, "STREAM.INFO.TWINS"))["cluster"]
    except (AskFailed, StreamError):
        return False
    return "leader" in cluster and [r["current"] for r in cluster.get("replicas", [])] == [True] * (SERVERS - 1)


async def _put(stream: LastValues, data: bytes, expect: int) -> int:
    """The sequence; 0 while nobody takes it. What was taken without an answer is seen when it is tried again."""
    try:
        return await stream.put(address("a"), data, expect)
    except WrongSequence:
        return await _seq_of(stream, data)
    except (AskFailed, StreamError):
        return 0


async def _seq_of(stream: LastValues, data: bytes) -> int:
    try:
        found = await stream.get(address("a"))
    except (AskFailed, StreamError):
        return 0
    assert found is not None
    return found.seq if found.data == data else 0
