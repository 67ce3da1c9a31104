"""Reading the gateway's stream (QoS 1 and 2) from our own position (RULES 28-32). Called by `handlers` alone.

The position that is stored is that of the last message taken. A gate keeps devices out of a new run of nats-server
until the position is taken and stored in it, and that is said.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Protocol

from canopy.bus.gateway import Incoming
from canopy.devicetwin.events import Event, Spoken
from canopy.sync.ingest import Position, StreamNow, resume

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


class Stream:
    """`resume` once before the first `next`, and again after each reconnect or failed commit.

    `keep` stores a position that was taken.
    """

    def __init__(self, source: Source, position: Position, max_bytes: int, keep: Keep) -> None:
        self._source, self._max_bytes, self._keep = source, max_bytes, keep
        self.position = position
        self.taken = ""
        """The run of nats-server in which the position stands and is stored; "" before."""
        self._floor = self._looked = 0

    async def resume(self) -> None:
        """Make sure of stream and consumer, and set the consumer to the position."""
        await self._source.open(self._max_bytes)
        now = await self._source.now()
        plan = resume(self.position, now)
        await self._source.reset(plan.start)
        if plan.position != self.position:
            await self._keep(plan.position)  # another run of this unit must know that devices have been let in since
            self.position = plan.position
        self._floor, self._looked, self.taken = plan.start - 1, 0, now.run

    async def next(self, wait_seconds: float) -> list[Incoming]:
        """What arrived; may hold what came before: see `fresh`."""
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
        return max(self._looked, self._floor, arrived[-1].seq if arrived else 0)

    def fresh(self, arrived: list[Incoming]) -> tuple[list[Incoming], Position]:
        """The messages to be applied, and the position to be stored with them."""
        found = []
        for message in arrived:
            if message.seq > self._floor:
                self._floor = message.seq
                found.append(message)
        return found, self._at(found[-1].seq) if found else self.position

    def behind(self, events: Sequence[Event]) -> Position:
        """The position once these are applied: that of the last one that the stream holds."""
        last = next((e.seq for e in reversed(events) if isinstance(e, Spoken) and e.seq), 0)
        return self._at(last) if last else self.position

    def _at(self, seq: int) -> Position:
        return replace(self.position, seq=seq)

    async def stored(self, arrived: list[Incoming], position: Position) -> None:
        """The batch is committed: acknowledge it."""
        self.position = position
        if arrived:
            await self._source.acknowledge(arrived[-1])
