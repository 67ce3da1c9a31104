"""Certificates that change under load: every identity many times at its own moments, then the hub's once. Nothing is
lost, heard twice or out of order, and nothing that is said fails. A hundred identities by ten: `make rotations`.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from callouts import RealCallout

from canopy.bus import AskFailed, Bus, Connection
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.testing.servers import NAME
from canopy.testing.trusted import TD, Trusted, minted, open_trusted
from canopy.testing.wait import until

BETWEEN_SECONDS = 0.05
"""Between two messages of a pair where there are ten identities; all together say as much where there are more."""
SETTLE_SECONDS = 120.0
TTL_SECONDS = 120.0
SPREAD_SECONDS = 1.0


@dataclass(frozen=True)
class Often:
    """A source whose certificates change more often than their time asks for: a machine that is busy with other tests
    may be late by seconds, and this is about changing and not about ending."""

    authority: Builtin
    id: SpiffeId
    every_seconds: float

    async def first(self) -> Identity:
        return await minted(self.authority, self.id, TTL_SECONDS)

    async def changes(self) -> AsyncIterator[Identity]:
        while True:
            await asyncio.sleep(self.every_seconds * random.uniform(0.8, 1.2))
            yield await self.first()


class Soon(random.Random):
    """As every process does, but within a second."""

    def uniform(self, a: float, b: float) -> float:
        return super().uniform(a, min(b, a + SPREAD_SECONDS))


@dataclass
class Member:
    """One identity: a process of the cloud, as it would have it."""

    connection: Connection
    serials: set[int] = field(default_factory=set)
    lost: int = 0

    @property
    def rotations(self) -> int:
        return len(self.serials) - 1

    def look(self) -> None:
        assert self.connection.identity is not None
        self.serials.add(self.connection.identity.svid.serial)

    def was_lost(self) -> None:
        self.lost += 1


@dataclass
class Pair:
    """One says, the other hears; `heard` are the numbers in the order in which they came."""

    says: Member
    hears: Member
    address: str
    between_seconds: float
    said: int = 0
    heard: list[int] = field(default_factory=list)

    async def run(self) -> None:
        await self.hears.connection.subscribe(self.address, self._take)
        await self.hears.connection.flush()
        while True:
            self.said += 1
            await self.says.connection.publish(self.address, str(self.said).encode())
            self.says.look()
            self.hears.look()
            await asyncio.sleep(self.between_seconds)

    async def _take(self, message: Any) -> None:
        self.heard.append(int(message.data))


@pytest.mark.parametrize(
    ("identities", "times", "every_seconds"),
    [
        pytest.param(10, 5, 1.0, marks=[pytest.mark.server, pytest.mark.xdist_group("rotations")]),
        pytest.param(100, 10, 6.0, marks=[pytest.mark.rotations, pytest.mark.timeout(300)]),
    ],
)
async def test_nothing_is_lost_while_every_certificate_changes_many_times_under_load(
    identities: int, times: int, every_seconds: float, tmp_path: Path
) -> None:
    async with open_trusted(tmp_path, RealCallout()) as world:
        between = BETWEEN_SECONDS * identities / 10
        pairs = [await _pair(world, i, every_seconds, between) for i in range(identities // 2)]
        members = [member for pair in pairs for member in (pair.says, pair.hears)]
        async with _talking(pairs):
            await until(lambda: all(m.rotations >= times for m in members), times * every_seconds + SETTLE_SECONDS)
        for pair in pairs:
            await until(lambda pair=pair: len(pair.heard) >= pair.said, 10)
            assert pair.heard == list(range(1, pair.said + 1))
        assert [m.lost for m in members] == [0] * identities
        print(f"{sum(m.rotations for m in members)} rotations, {sum(pair.said for pair in pairs)} messages, none lost")
        await _the_hubs_own(world, members)
        assert max(m.lost for m in members) <= 2, "one, and one where its own was just changing"


async def _the_hubs_own(world: Trusted, members: list[Member]) -> None:
    """The hub's certificate changes: who was let in by the callout comes back once, and each ask is answered."""
    asks, answered, stop = await world.cloud("cloudhub"), list[int](), asyncio.Event()
    serves = await world.cloud("devicecontroller")

    async def page(ask: wire.SetAsk, place: Any) -> wire.PageAnswer:
        return wire.PageAnswer(reason=ask.node)

    async def ask() -> None:
        while not stop.is_set():
            await _until_answered(asks, f"n{len(answered)}")
            answered.append(len(answered))

    await serves.serve(c.SET_PAGE, page)
    asking, before = asyncio.create_task(ask()), _servers_certificate(asks.connection)
    await until(lambda: len(answered) > 10, 10)
    write_identity(world.folder / "hub-identity", await minted(world.authority, ids.hub(TD), dns=(NAME,)))
    world.hub.server.reload()
    await until(lambda: all(m.lost and m.connection.connected for m in members), SETTLE_SECONDS)
    reached = len(answered)
    await until(lambda: len(answered) > reached + 10, 10)
    stop.set()
    await asking
    assert _servers_certificate(asks.connection) != before


async def _until_answered(bus: Bus, node: str) -> None:
    while True:
        try:
            answer = await bus.ask(c.SET_PAGE, wire.SetAsk(node=node, ask=wire.PageAsk()), channel=c.DEVICES_CHANNEL)
        except AskFailed:
            await asyncio.sleep(BETWEEN_SECONDS)
            continue
        assert answer.reason == node
        return


def _servers_certificate(connection: Connection) -> bytes:
    found: bytes = connection.client._transport._io_writer.get_extra_info("ssl_object").getpeercert(True)
    return found


async def _pair(world: Trusted, number: int, every_seconds: float, between_seconds: float) -> Pair:
    says, hears = [await _member(world, unit, every_seconds) for unit in ("cloudhub", "edgecontroller")]
    return Pair(says, hears, c.PRESENCE.at(node=f"edge-{number}"), between_seconds)


async def _member(world: Trusted, unit: str, every_seconds: float) -> Member:
    source = Often(world.authority, ids.cloud(TD, unit), every_seconds)
    connection = await Connection.open(
        world.hub.client_url, name=unit, identity=source, expected=frozenset({ids.hub(TD)}), rng=Soon()
    )
    world.stack.push_async_callback(connection.close, False)
    member = Member(connection)
    connection.on_lost(member.was_lost)
    return member


@asynccontextmanager
async def _talking(pairs: list[Pair]) -> AsyncIterator[None]:
    """Until the block ends, or something that is said fails."""
    tasks = [asyncio.create_task(pair.run()) for pair in pairs]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
