"""The one worker that changes twins: gather a batch, decide, commit, then say. Everything that happens comes here.

`run` is the worker; the rest puts events before it. Answers leave after the commit, never before.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from canopy.bus import AskFailed, Bus, Place, Retry
from canopy.bus.connection import NotConnected
from canopy.bus.gateway import Incoming
from canopy.bus.jsapi import StreamError
from canopy.contracts.identity_wire import TwinPosition
from canopy.contracts.wire import AsOf, MapperReport, MapperResult, Nothing, Put, Summary
from canopy.devicetwin import core
from canopy.devicetwin.apart import committed
from canopy.devicetwin.batch import Batch, Context
from canopy.devicetwin.desired import facts
from canopy.devicetwin.events import Event, Repeat, Reported, SetRead, Spoken, in_order
from canopy.devicetwin.repeats import Repeats
from canopy.devicetwin.rows import Changes, Rows
from canopy.devicetwin.shelf import Shelf
from canopy.devicetwin.stream import Stream
from canopy.devicetwin.topics import Said
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.metrics import Counter

log = logging.getLogger("canopy.devicetwin")

IDLE_SECONDS = 1.0
RESUME_FIRST_SECONDS, RESUME_MOST_SECONDS = 0.2, 5.0
WARNED = 10_000
UNREADABLE = (AskFailed, StreamError, NotConnected, OSError)


@dataclass(frozen=True, slots=True)
class Counts:
    """What is counted; made in `unit`."""

    messages: Counter
    dropped: Counter
    failed: Counter


@dataclass(slots=True)
class Gathered:
    """Events of one batch, and the gateway's messages among them."""

    events: list[Event]
    arrived: list[Incoming] = field(default_factory=list)


class Handlers:
    """Owns the worker's state: what waits, whether the stream is set to the position, what differs."""

    def __init__(
        self,
        bus: Bus,
        stream: Stream,
        rows: Rows,
        shelf: Shelf,
        as_of: AsOf | None,
        context: Context,
        clock: Clock,
        counts: Counts,
        repeats: Repeats,
        wake_source: Callable[[], None],
        waiting_max: int,
        rng: random.Random,
        letters: DeadLetters | None = None,
    ) -> None:
        self._letters = letters if letters is not None else DeadLetters("devicetwin")
        self._bus, self._stream, self._rows, self._shelf = bus, stream, rows, shelf
        self.as_of = as_of
        self._context, self._clock, self._counts = context, clock, counts
        self._repeats, self._wake_source, self._waiting_max = repeats, wake_source, waiting_max
        self._waiting: list[Event] = []
        self._unstored = 0
        self._hand = Gathered([])
        self._woken = asyncio.Event()
        self._set, self._reconnects = False, 0
        self._resume_wait = Backoff(RESUME_FIRST_SECONDS, RESUME_MOST_SECONDS, rng)
        self._warned: dict[tuple[object, ...], None] = {}
        self.on_change: list[Callable[[], None]] = []
        self.started = asyncio.Event()

    # --- what comes ---------------------------------------------------------------------------------------------------
    def put(self, event: Event) -> bool:
        """Hand an event to the worker; False if too many wait already."""
        if len(self._waiting) >= self._waiting_max and not isinstance(event, SetRead):
            self._counts.dropped.add(why="waiting")
            return False
        self._waiting.append(event)
        self._woken.set()
        self._wake_source()
        return True

    @property
    def waiting(self) -> int:
        """How many events wait for the next batch."""
        return len(self._waiting)

    async def spoken(self, data: bytes, place: Place[bytes]) -> None:
        """A message of QoS 0, or of a local NATS publisher; those of QoS 1 and 2 come by the stream."""
        now_ns = self._clock.now_ms() * 1_000_000 + 999_999
        self.put(Spoken(place.subject, data, place.headers.get("traceparent", ""), now_ns))

    def read(self, puts: Iterable[Put], as_of: AsOf) -> bool:
        """The proven set of devices, whole."""
        devices, wrong = facts(puts, self._cannot_read)
        for name, why in wrong.items():
            self._warn_once((name, why), f"cannot be read: {why}")
        return self.put(SetRead(devices, as_of))

    def _cannot_read(self, put: Put, bug: Exception) -> None:
        kind, namespace, name = put.entry.key
        self._letters.failed(f"{kind} {namespace}/{name}", bug, bytes(put.body))

    async def reported(self, report: MapperReport, place: Place[MapperReport]) -> MapperResult:
        """A mapper's report: answered when it is stored."""
        future: asyncio.Future[MapperResult | None] = asyncio.get_running_loop().create_future()
        trace = self._bus.telemetry.current_traceparent() or report.trace
        if not self.put(Reported(report, lambda result: _resolve(future, result), trace)):
            raise Retry("too many reports wait to be stored")
        result = await future
        if result is None:
            raise Retry("the report could not be stored")
        return result

    async def summary(self, message: Nothing, place: Place[Nothing]) -> Summary:
        """EdgeHub before a beat."""
        return self._shelf.summary

    async def position(self, message: Nothing, place: Place[Nothing]) -> TwinPosition:
        """edgeidentity, which holds the gate of devices (RULES 29)."""
        return TwinPosition(server_run=self._stream.taken, ready=self._set)

    async def reconnected(self) -> None:
        """The connection is another one: the stream is set to the position before anything more is read."""
        self._set, self._reconnects = False, self._reconnects + 1
        self._wake()

    def _wake(self) -> None:
        self._woken.set()
        self._wake_source()

    # --- the worker ---------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Work until cancelled."""
        for device in self._shelf.devices.values():
            self._repeats.note(device.key, core.differing(device.state), self._clock.monotonic())
        try:
            while True:
                self._hand = await self._gather()
                if self._hand.events or self._hand.arrived:
                    await self._whole(self._hand)
        finally:
            _give_up(self._hand.events + self._waiting)

    async def _gather(self) -> Gathered:
        arrived: list[Incoming] = []
        if self._set or await self._resumed():
            arrived = await self._next()
        else:
            await self._clock.wait(self._woken, self._resume_wait.next_seconds())
        events, self._waiting = self._waiting, []
        self._woken.clear()
        if self._set and any(isinstance(e, Spoken) for e in events):
            arrived = await self._caught_up(arrived)
        if due := self._repeats.take(self._clock.monotonic()):
            events.append(Repeat(tuple(due)))
        return Gathered(events, arrived)

    async def _next(self) -> list[Incoming]:
        try:
            return await self._stream.next(self._idle())
        except UNREADABLE as e:
            log.warning("%s; set to the position again", e)
            self._set = False
            return []

    def _idle(self) -> float:
        if self._waiting:
            return 0.0
        at = self._repeats.next_at()
        return IDLE_SECONDS if at is None else min(IDLE_SECONDS, max(0.0, at - self._clock.monotonic()))

    async def _resumed(self) -> bool:
        connection = self._reconnects
        try:
            await self._stream.resume()
        except UNREADABLE as e:
            log.warning("the MQTT gateway's stream cannot be read: %s; trying on", e)
            return False
        if self._reconnects != connection:
            return False  # it was set in a run of nats-server that is over
        self._set = True
        self._resume_wait.reset()
        self.started.set()
        return True

    async def _caught_up(self, arrived: list[Incoming]) -> list[Incoming]:
        try:
            return await self._stream.catch_up(arrived)
        except UNREADABLE:
            return arrived  # the connection went: what is missing comes after the resume

    async def _whole(self, gathered: Gathered) -> None:
        """One batch; if it cannot be stored, nothing of it is acknowledged and the stream is read again."""
        fresh, position = self._stream.fresh(gathered.arrived)
        stored = [Spoken(m.subject, m.data, "", m.time_ns, m.seq) for m in fresh]
        events = list(in_order(stored, gathered.events))
        self._unstored = _unrepeated(events)
        try:
            if events:
                await committed(events, self._commit, self._set_aside)
        except Exception:
            log.exception("of a batch of %d not all could be stored; it is read again", len(events))
            _give_up(gathered.events)
            self._counts.dropped.add(self._unstored, why="not stored")
            self._set = False
            await self._clock.wait(self._woken, self._resume_wait.next_seconds())
            return
        await self._stream.stored(gathered.arrived, position)

    async def _commit(self, events: Sequence[Event]) -> None:
        """Decide, store, keep, say: all of these events, in one transaction."""
        batch = self._begun()
        for event in events:
            batch.take(event)
        batch.finish()
        await self._through(batch, events)

    async def _set_aside(self, event: Event, bug: Exception) -> None:
        """It could not be committed alone: whoever waits is told, and what comes behind it goes on."""
        batch = self._begun()
        batch.set_aside(event, bug)
        await self._through(batch, [event])

    def _begun(self) -> Batch:
        return Batch(self._shelf.devices, self._clock.now_ms(), self._context)

    async def _through(self, batch: Batch, events: Sequence[Event]) -> None:
        changes, position = batch.changes(), self._stream.behind(events)
        if changes:
            await self._rows.write(changes, position, batch.as_of or self.as_of)
        self._keep(changes, batch)
        self._stream.position = position
        await self._say(batch.said)
        self._answer(batch)
        self._counts.messages.add(len(events))
        self._unstored -= _unrepeated(events)

    def _keep(self, changes: Changes, batch: Batch) -> None:
        now = self._clock.monotonic()
        for name, found in changes.items():
            if found is None:
                self._shelf.drop(name)
                self._repeats.note(name, {}, now)
            else:
                self._shelf.put(found[0], now)
                self._repeats.note(name, core.differing(found[0].state), now)
        self.as_of = batch.as_of or self.as_of
        self._warn(batch)
        if changes:
            for hook in self.on_change:
                hook()

    async def _say(self, said: list[Said]) -> None:
        """Answers are said once; who waited for one asks again, and deltas repeat."""
        if unsaid := await self._bus.say_all(said):
            self._counts.dropped.add(unsaid, why="unsaid")

    def _answer(self, batch: Batch) -> None:
        for answer, result in batch.answers:
            answer(result)
        for then in batch.then:
            then()
        for bug in batch.bugs:
            self._counts.failed.add()
            self._letters.failed(bug.source, bug.error, bug.body, trace=bug.trace)

    def _warn(self, batch: Batch) -> None:
        for (name, key, value), why in batch.refused_desired.items():
            what = f"the desired value of {name[0]}/{name[1]} {key} is not taken: {why}"
            self._warn_once((name, key, value), what)

    def _warn_once(self, key: tuple[object, ...], what: str) -> None:
        if key in self._warned:
            return
        if len(self._warned) >= WARNED:
            self._warned.clear()
        self._warned[key] = None
        log.warning("%s", what)


def _resolve(future: "asyncio.Future[MapperResult | None]", result: MapperResult | None) -> None:
    if not future.done():
        future.set_result(result)


def _unrepeated(events: Iterable[Event]) -> int:
    """How many messages of QoS 0 are among them: nobody says those again."""
    return sum(isinstance(e, Spoken) and not e.seq for e in events)


def _give_up(events: Iterable[Event]) -> None:
    """Nobody waits for an answer that cannot come."""
    for event in events:
        if isinstance(event, Reported):
            event.answer(None)
