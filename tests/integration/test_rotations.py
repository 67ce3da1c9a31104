"""Certificates that end under load: those of a hundred identities ten times over, and the hub's own (`make rotations`).

Each is renewed as every process does it, when half of its life is over, and the server cuts whoever does not: one here
does not. Meanwhile they say, ask, and write to a stream; nothing is lost, taken twice or out of order, nothing fails,
and no connection is lost, not even when the hub reads a new certificate.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from callouts import RealCallout
from cryptography import x509

from canopy.bus import Bus, Connection
from canopy.bus.streams import LastValues, Reader, Value
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.identity import ids
from canopy.identity.identity import Identity, write_identity
from canopy.identity.sources import AuthoritySource, Source
from canopy.runtime.telemetry import Telemetry
from canopy.testing.domain import TD, minted
from canopy.testing.servers import NAME
from canopy.testing.wait import until
from canopy.testing.world import HUB_FILES, World, open_world

BETWEEN_SECONDS = {"say": 0.1, "ask": 0.2, "write": 0.2}
"""Between two messages of a talk."""
UNITS = {"say": "edgecontroller", "ask": "devicecontroller", "write": "devicecontroller"}
"""Who hears CloudHub."""
ASK_SECONDS = 10.0
"""A machine may be busy; nothing is asked twice."""
SETTLE_SECONDS = 90.0
LATE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Once:
    """A source that renews nothing."""

    identity: Identity

    async def first(self) -> Identity:
        return self.identity

    async def changes(self) -> AsyncIterator[Identity]:
        await asyncio.Event().wait()
        yield self.identity


@dataclass
class Member:
    """One identity: a process of the cloud, as it would have it. `ends` are those of the certificates that it bore."""

    bus: Bus
    ends: dict[int, float] = field(default_factory=dict)
    lost: list[float] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return self.bus.connection

    def ended(self) -> int:
        """How many of its certificates have ended by now."""
        assert self.connection.identity is not None
        svid, now = self.connection.identity.svid, time.time()
        self.ends[svid.serial] = svid.not_after
        return sum(end < now for end in self.ends.values())


@dataclass
class Talk:
    """One says 1, 2, 3 ... in one of three ways; `heard` is what came to the other, in the order in which it came."""

    way: str
    number: int
    says: Member
    hears: Member
    said: int = 0
    heard: list[int] = field(default_factory=list)

    @property
    def node(self) -> str:
        return f"edge-{self.number}"

    async def run(self, ending: asyncio.Event) -> None:
        """Until `ending`; raises what failed."""
        if self.way != "write":
            return await self._talk(ending, self._ask if self.way == "ask" else self._say)
        async with Reader(self.hears.bus, "TWINS", c.TWINS.wild(node=self.node), self._read, lambda: None) as reader:
            await self._talk(ending, self._write)
            await until(lambda: len(self.heard) >= self.said, ASK_SECONDS)
            assert not reader.broken.is_set()

    async def _talk(self, ending: asyncio.Event, send: Callable[[], Awaitable[None]]) -> None:
        while not ending.is_set():
            self.said += 1
            await send()
            await asyncio.sleep(BETWEEN_SECONDS[self.way])

    async def _say(self) -> None:
        await self.says.bus.say(c.PRESENCE, str(self.said).encode(), node=self.node)

    async def _ask(self) -> None:
        ask, asked = self.says.bus.ask, wire.SetAsk(node=f"{self.number}/{self.said}", ask=wire.PageAsk())
        answer = await ask(c.SET_PAGE, asked, timeout=ASK_SECONDS, channel=c.DEVICES_CHANNEL)
        assert answer.reason == asked.node

    async def _write(self) -> None:
        address = c.TWINS.at(node=self.node, namespace="default", name="lamp")
        await LastValues(self.says.bus, "TWINS").put(address, str(self.said).encode(), None)

    def _read(self, value: Value) -> None:
        self.heard.append(int(value.data))

    async def take(self, message: Any) -> None:
        self.heard.append(int(message.data))


@pytest.mark.parametrize(
    ("identities", "lives", "ttl_seconds"),
    [
        pytest.param(12, 2, 6.0, marks=[pytest.mark.server, pytest.mark.xdist_group("rotations")]),
        pytest.param(100, 10, 15.0, marks=[pytest.mark.rotations, pytest.mark.timeout(300)]),
    ],
)
async def test_nothing_is_lost_while_every_certificate_ends_many_times_under_load(
    identities: int, lives: int, ttl_seconds: float, tmp_path: Path
) -> None:
    async with open_world(tmp_path, answers=RealCallout()) as world:
        once = Once(await minted(world.authority, ids.cloud(TD, "cloudhub"), ttl_seconds))
        careless = await _member(world, "cloudhub", once)
        await LastValues(careless.bus, "TWINS").ensure(max_msgs_per_subject=-1)
        talks = await _talks(world, identities // 2, ttl_seconds)
        members = [member for talk in talks for member in (talk.says, talk.hears)]

        def over() -> bool:
            return min([member.ended() for member in members]) >= lives

        async with _hub_renewed(world, ttl_seconds) as hubs, _talking(talks) as going:
            await until(lambda: over() or not going(), lives * ttl_seconds / 2 + SETTLE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await until(lambda: all(len(talk.heard) >= talk.said for talk in talks), ASK_SECONDS)
        for talk in talks:
            assert talk.heard == list(range(1, talk.said + 1)), f"{talk.way} of {talk.node}"
        assert [member.lost for member in members] == [[]] * identities
        assert careless.lost and 0 <= careless.lost[0] - once.identity.svid.not_after < LATE_SECONDS
        assert not careless.connection.connected
        late = await _member(world, "cloudhub", Once(await minted(world.authority, ids.cloud(TD, "cloudhub"))))
        assert len(hubs) > lives and _serial_of_the_hub(late) == hubs[-1]
        print(
            f"{sum(member.ended() for member in members)} certificates of {identities} identities ended, {len(hubs)} of"
            f" the hub came: {sum(talk.said for talk in talks)} messages, none lost, no connection lost"
        )


async def _talks(world: World, many: int, ttl_seconds: float) -> list[Talk]:
    """A third of each way."""
    talks: list[Talk] = []

    async def page(ask: wire.SetAsk, place: Any) -> wire.PageAnswer:
        number, said = map(int, ask.node.split("/"))
        talks[number].heard.append(said)
        return wire.PageAnswer(reason=ask.node)

    for number in range(many):
        way = list(UNITS)[number % len(UNITS)]
        sources = [AuthoritySource(world.authority, ids.cloud(TD, u), ttl_seconds=ttl_seconds) for u in _units(way)]
        says, hears = [await _member(world, source._id.segments[-1], source) for source in sources]
        talks.append(talk := Talk(way, number, says, hears))
        if way == "say":
            await hears.connection.subscribe(c.PRESENCE.at(node=talk.node), talk.take)
        if way == "ask":
            await hears.bus.serve(c.SET_PAGE, page, channel=c.DEVICES_CHANNEL)
        await hears.connection.flush()
    return talks


def _units(way: str) -> tuple[str, str]:
    return "cloudhub", UNITS[way]


async def _member(world: World, unit: str, source: Source) -> Member:
    expected = frozenset({ids.hub(TD)})
    connection = await Connection.open(world.hub.client_url, name=unit, identity=source, expected=expected)
    world.stack.push_async_callback(connection.close, False)
    member = Member(Bus(connection, unit, Telemetry(unit, enabled=False)))
    connection.on_lost(lambda: member.lost.append(time.time()))
    return member


@asynccontextmanager
async def _hub_renewed(world: World, ttl_seconds: float) -> AsyncIterator[list[int]]:
    """The hub's own certificate ends as well, and its server reads the next one; the serials, as they come."""
    source, serials = AuthoritySource(world.authority, ids.hub(TD), ttl_seconds=ttl_seconds, dns=(NAME,)), list[int]()

    def given(identity: Identity) -> None:
        write_identity(world.folder / HUB_FILES, identity)
        world.hub.server.reload()
        serials.append(identity.svid.serial)

    async def follow() -> None:
        async for identity in source.changes():
            given(identity)

    given(await source.first())
    following = asyncio.create_task(follow())
    try:
        yield serials
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@asynccontextmanager
async def _talking(talks: list[Talk]) -> AsyncIterator[Callable[[], bool]]:
    """Until the block ends: then each finishes what it is saying. Raises what failed; gives whether all go on."""
    ending = asyncio.Event()
    tasks = [asyncio.create_task(talk.run(ending)) for talk in talks]
    try:
        yield lambda: not any(task.done() for task in tasks)
    finally:
        ending.set()
        await asyncio.gather(*tasks)


def _serial_of_the_hub(member: Member) -> int:
    tls = member.connection.client._transport._io_writer.get_extra_info("ssl_object")
    return x509.load_der_x509_certificate(tls.getpeercert(True)).serial_number
