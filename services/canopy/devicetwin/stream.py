"""Reading the gateway's stream (QoS 1 and 2) from our own position (RULES 28-32). Called by `handlers` alone.

The position that is stored is that of the last message taken. Where a gate keeps devices out of a new run of
nats-server until the position is taken, it is taken by sequence and stored before that is said. Without a gate,
messages that lay there at connect and are not newer than the position are passed over.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from canopy.bus.gateway import Incoming
from canopy.devicetwin.events import Event, Spoken
from canopy.sync.ingest import Position, Resume, StreamNow, resume

log = logging.getLogger("canopy.devicetwin")
CATCH_UP_SECONDS = 0.05


Keep = Callable[[Position], Awaitable[None]]


class Source(Protocol):
    """What `canopy.bus.gateway.Gateway` is."""

    async def open(self, max_bytes: int) -> None: ...
    async def now(self) -> StreamNow: ...
    async def reset(self, start: int) -> None: ...
    async def next(self, wait_seconds: float) -> list[Incoming]: ...
    async def acknowledge(self, last: Incoming) -> None: ...


@dataclass(slots=True)
class _Run:
    """How this run of the server is read: up to `last` (what lay there at connect) by time, always by sequence."""

    now: StreamNow
    floor: int
    skip_until_ns: int


class Stream:
    """`resume` once before the first `next`, and again after each reconnect or failed commit.

    `keep` stores a position that was taken; given only where devices wait behind a gate until `taken` says so.
    """

    def __init__(self, source: Source, position: Position, max_bytes: int, keep: Keep | None = None) -> None:
        self._source, self._max_bytes, self._keep = source, max_bytes, keep
        self.position = position
        self.taken = ""
        """The run of nats-server in which the position stands and is stored; "" before."""
        self._run: _Run | None = None
        self._looked = 0

    async def resume(self) -> None:
        """Make sure of stream and consumer, and set the consumer to the position."""
        await self._source.open(self._max_bytes)
        now = await self._source.now()
        plan: Resume = resume(self.position, now, gated=self._keep is not None)
        await self._source.reset(plan.start)
        if self._keep is not None and plan.position != self.position:
            await self._keep(plan.position)  # another run of this unit must know that devices have been let in since
            self.position = plan.position
        self._run, self._looked, self.taken = _Run(now, plan.start - 1, plan.skip_until_ns), 0, now.run

    async def next(self, wait_seconds: float) -> list[Incoming]:
        """What arrived; may hold messages to be passed over: see `fresh`."""
        return await self._source.next(wait_seconds)

    async def catch_up(self, arrived: list[Incoming]) -> list[Incoming]:
        """With what the stream holds besides: a QoS 0 message must not overtake what its sender said before it."""
        last = (await self._source.now()).last
        while self._seen(arrived) < last:
            more = await self._source.next(CATCH_UP_SECONDS)
            if not more:
                self._looked = last  # the stream's last message is not for us
                break
            arrived = arrived + more
        return arrived

    def _seen(self, arrived: list[Incoming]) -> int:
        floor = self._run.floor if self._run else 0
        return max(self._looked, floor, arrived[-1].seq if arrived else 0)

    def fresh(self, arrived: list[Incoming]) -> tuple[list[Incoming], Position]:
        """The messages to be applied, and the position to be stored with them."""
        run, position = self._run, self.position
        if run is None:
            return [], position
        found = []
        for message in arrived:
            if message.seq <= run.floor:
                continue
            run.floor = message.seq
            if message.seq <= run.now.last and message.time_ns <= run.skip_until_ns:
                continue
            found.append(message)
        if found:
            position = Position(found[-1].seq, found[-1].time_ns, run.now.created, run.now.run)
        return found, position

    def behind(self, events: Sequence[Event]) -> Position:
        """The position once these are applied: that of the last one that the stream holds."""
        run = self._run
        last = next((e for e in reversed(events) if isinstance(e, Spoken) and e.seq), None)
        return (
            self.position
            if last is None or run is None
            else Position(last.seq, last.time_ns, run.now.created, run.now.run)
        )

    async def stored(self, arrived: list[Incoming], position: Position) -> None:
        """The batch is committed: acknowledge it."""
        self.position = position
        if arrived:
            await self._source.acknowledge(arrived[-1])
