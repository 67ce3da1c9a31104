"""Certificates that end under load: those of a hundred identities ten times over, and the hub's own (`make rotations`).

Each is renewed as every process does it, when half of its life is over, and the server cuts whoever does not: one here
does not. Meanwhile they say, ask, and write to a stream; nothing is lost, taken twice or out of order, nothing fails,
and no connection is lost, not even when the hub reads a new certificate.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from canopy.bus import Bus, Connection
from canopy.bus.streams import LastValues, Reader, Value
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, read_identity
from canopy.identity.sources import AuthoritySource, Source
from canopy.runtime.telemetry import Telemetry
from canopy.testing.domain import TD, minted
from canopy.testing.fleet import Trust
from canopy.testing.servers import RunningHub
from canopy.testing.units import Units
from canopy.testing.wait import until

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


@dataclass
class Fleet:
    """A hub and who lets in there, a process of spire_integration, which keeps the hub's certificate too."""

    authority: Builtin
    hub: RunningHub
    identity: Path
    stack: AsyncExitStack
    serials: dict[int, None] = field(default_factory=dict)

    def hubs_own(self) -> int:
        """How many certificates the hub has had."""
        self.serials[read_identity(self.identity).svid.serial] = None
        return len(self.serials)


@asynccontextmanager
async def _fleet(folder: Path, hub_ttl_seconds: int) -> AsyncIterator[Fleet]:
    lasts = {"HUB_TTL_SECONDS": str(hub_ttl_seconds), "KEEP_SECONDS": "0.5"}
    units = Units(folder / "logs", {f"SPIRE_INTEGRATION_{key}": value for key, value in lasts.items()})
    trust = Trust.of(folder, 1, 1, units)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(lambda: asyncio.gather(*(process.kill() for process in trust.processes.values())))
        await trust.begin()
        hub = await trust.open_hub()
        stack.push_async_callback(hub.server.kill)
        await trust.ready()
        yield Fleet(Builtin(trust.directory / "authority", TD), hub, Path(trust.hub.svid).parent, stack)


@pytest.mark.parametrize(
    ("identities", "lives", "ttl_seconds"),
    [
        pytest.param(6, 1, 8, marks=[pytest.mark.server, pytest.mark.xdist_group("rotations")]),
        pytest.param(100, 10, 20, marks=[pytest.mark.rotations, pytest.mark.timeout(300)]),
    ],
)
async def test_nothing_is_lost_while_every_certificate_ends_many_times_under_load(
    identities: int, lives: int, ttl_seconds: int, tmp_path: Path
) -> None:
    async with _fleet(tmp_path, ttl_seconds) as fleet:
        once = Once(await minted(fleet.authority, ids.cloud(TD, "cloudhub"), ttl_seconds))
        careless = await _member(fleet, "cloudhub", once)
        await LastValues(careless.bus, "TWINS").ensure(max_msgs_per_subject=-1)
        talks = await _talks(fleet, identities // 2, ttl_seconds)
        members = [member for talk in talks for member in (talk.says, talk.hears)]

        def over() -> bool:
            ended, hubs_own = [member.ended() for member in members], fleet.hubs_own()  # both see what there is now
            return min(ended) >= lives and hubs_own > lives

        async with _talking(talks) as going:
            await until(lambda: over() or not going(), lives * ttl_seconds / 2 + SETTLE_SECONDS)
        with contextlib.suppress(TimeoutError):
            await until(lambda: all(len(talk.heard) >= talk.said for talk in talks), ASK_SECONDS)
        for talk in talks:
            assert talk.heard == list(range(1, talk.said + 1)), f"{talk.way} of {talk.node}"
        assert [member.lost for member in members] == [[]] * identities
        await until(lambda: fleet.hubs_own() and careless.lost, LATE_SECONDS)
        assert 0 <= careless.lost[0] - once.identity.svid.not_after < LATE_SECONDS
        assert not careless.connection.connected
        late = await _member(fleet, "cloudhub", Once(await minted(fleet.authority, ids.cloud(TD, "cloudhub"))))
        fleet.hubs_own()
        assert _serial_of_the_hub(late) in list(fleet.serials)[1:]
        print(
            f"{sum(member.ended() for member in members)} certificates of {identities} identities ended, the hub had"
            f" {fleet.hubs_own()}: {sum(talk.said for talk in talks)} messages, none lost, and no connection lost"
        )


async def _talks(fleet: Fleet, many: int, ttl_seconds: float) -> list[Talk]:
    """A third of each way."""
    talks: list[Talk] = []

    async def page(ask: wire.SetAsk, place: Any) -> wire.PageAnswer:
        number, said = map(int, ask.node.split("/"))
        talks[number].heard.append(said)
        return wire.PageAnswer(reason=ask.node)

    for number in range(many):
        way = list(UNITS)[number % len(UNITS)]
        says, hears = [await _renewed(fleet, unit, ttl_seconds) for unit in ("cloudhub", UNITS[way])]
        talks.append(talk := Talk(way, number, says, hears))
        if way == "say":
            await hears.connection.subscribe(c.PRESENCE.at(node=talk.node), talk.take)
        if way == "ask":
            await hears.bus.serve(c.SET_PAGE, page, channel=c.DEVICES_CHANNEL)
        await hears.connection.flush()
    return talks


async def _renewed(fleet: Fleet, unit: str, ttl_seconds: int) -> Member:
    return await _member(fleet, unit, AuthoritySource(fleet.authority, ids.cloud(TD, unit), ttl_seconds=ttl_seconds))


async def _member(fleet: Fleet, unit: str, source: Source) -> Member:
    expected = frozenset({ids.hub(TD)})
    connection = await Connection.open(fleet.hub.client_url, name=unit, identity=source, expected=expected)
    fleet.stack.push_async_callback(connection.close, False)
    member = Member(Bus(connection, unit, Telemetry(unit, enabled=False)))
    connection.on_lost(lambda: member.lost.append(time.time()))
    return member


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
