"""Keeps the session: waits for what is due, sends hellos and beats, says `edge.link`. `handlers.py` reads it and
brings it what asks and pushes show; `unit.py` runs it."""

import asyncio
import logging
import random
from dataclasses import dataclass

import msgspec

from canopy.bus import AskFailed, AskTimeout, Bus, NoResponders, healths
from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import Beat, BeatAnswer, Hello, Nothing, Summary, encode
from canopy.edgehub.core import (
    Action,
    Actions,
    Beaten,
    Complain,
    Due,
    Event,
    Gone,
    Greeted,
    Hint,
    Machine,
    Refused,
    SayLink,
    SendBeat,
    SendHello,
    Silent,
    WantTwins,
)
from canopy.runtime.clock import Clock
from canopy.runtime.health import Counter, Health

log = logging.getLogger("canopy.edgehub")
SUMMARY_SECONDS = 0.5
BETWEEN_TRIES_SECONDS = (0.05, 0.25)


@dataclass(frozen=True, slots=True)
class Manner:
    """How this node introduces itself, and how patient it is."""

    hello: Hello
    ask_seconds: float
    ask_tries: int
    compare_seconds: float


class SessionKeeper:
    """One session after the other, until cancelled. `units` is the health of this node's units, for the beat."""

    def __init__(
        self,
        bus: Bus,
        machine: Machine,
        clock: Clock,
        manner: Manner,
        health: Health,
        rng: random.Random,
        units: healths.Read = list,
    ) -> None:
        self._bus, self.machine, self._clock, self._rng = bus, machine, clock, rng
        self._manner, self._health, self._units = manner, health, units
        self._hellos = 0
        self.sessions = 0
        self.refusals: Counter | None = None
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        self._bus.connection.on_reconnect(self._reconnected)
        try:
            await self._bus.say(c.LINK, self.machine.link.said)
            while True:
                await self._until_due()
                await self._do(self.machine.on(Due(), self._clock.monotonic()))
        finally:
            self._bus.connection.forget(self._reconnected)

    async def post(self, event: Event) -> None:
        """Take an event from outside of the loop."""
        self._count(event)
        actions = self.machine.on(event, self._clock.monotonic())
        self._wake.set()
        await self._do(actions)

    def _count(self, event: Event) -> None:
        self.sessions += isinstance(event, Greeted)
        if isinstance(event, Refused) and self.refusals is not None:
            self.refusals.add(verdict=event.verdict.verdict[:20])

    async def _reconnected(self) -> None:
        await self.post(Hint())

    async def _until_due(self) -> None:
        while (left := self.machine.link.due - self._clock.monotonic()) > 0:
            await self._clock.wait(self._wake, left)

    async def _do(self, actions: Actions) -> None:
        for action in actions:
            await self._one(action)

    async def _one(self, action: Action) -> None:
        match action:
            case SendHello(seen=seen):
                await self._greet(seen)
            case SendBeat(session=session):
                await self._beat(session)
            case SayLink(state=state):
                self._health.set("link", state.reason != "superseded", state.reason or "up")
                await self._bus.say(c.LINK, self.machine.link.said)  # the newest: others may have come between
            case WantTwins():
                await self._bus.say(c.HUB_WANT, Nothing(), channel=c.UP_CHANNEL)
            case Complain(text=text, loud=loud):
                log.log(logging.ERROR if loud else logging.INFO, "%s", text)

    async def _greet(self, seen: int) -> None:
        self._hellos += 1
        hello = msgspec.structs.replace(self._manner.hello, seen=seen, n=self._hellos)
        try:
            answer = await self._bus.ask(c.HELLO, hello, timeout=self._manner.ask_seconds, node=self._bus.node)
        except (AskFailed, msgspec.DecodeError) as e:
            return await self.post(_failed(0, e))
        ok = answer.verdict == "ok"
        await self.post(Greeted(answer, self._clock.now_ms()) if ok else Refused(0, answer))

    async def _beat(self, session: int) -> None:
        summary, units = await self._summary(), self._units()
        hash, pending = self._compared(summary), summary.pending if summary else 0
        _, n = self.machine.stamp()
        beat = Beat(session=session, n=n, health=healths.by_unit(units), hash=hash, units=units, pending=pending)
        body = encode(beat)
        try:
            answer = msgspec.json.decode(await self.ask(c.BEAT, body), type=BeatAnswer)
        except (AskFailed, msgspec.DecodeError) as e:
            return await self.post(_failed(session, e))
        ok = answer.verdict == "ok"
        await self.post(Beaten(session, answer) if ok else Refused(session, answer))

    async def ask(self, subject: AnySubject, body: bytes, **tokens: str) -> bytes:
        """Ask CloudHub; a repeat bears the same stamp, so that it is harmless. Raises AskFailed, TooBig."""
        manner = self._manner
        for left in reversed(range(manner.ask_tries)):
            try:
                return await self._bus.ask_raw(subject, body, timeout=manner.ask_seconds, node=self._bus.node, **tokens)
            except AskTimeout:
                if not left:
                    raise
                await self._clock.sleep(self._rng.uniform(*BETWEEN_TRIES_SECONDS))
        raise AssertionError("ask_tries is at least 1")

    async def _summary(self) -> Summary | None:
        """None while DeviceTwin does not answer."""
        try:
            return await self._bus.ask(c.TWIN_SUMMARY, Nothing(), timeout=SUMMARY_SECONDS)
        except (AskFailed, msgspec.DecodeError):
            return None

    def _compared(self, summary: Summary | None) -> str | None:
        """The reported set's hash, where it is worth comparing."""
        now, after = self._clock.monotonic(), self._manner.compare_seconds
        return summary.hash if summary and self.machine.compares(summary.pending, now, after) else None


def _failed(session: int, e: Exception) -> Event:
    """An ask that brought no verdict: nobody there, or nobody who answers so that it can be understood."""
    log.debug("%s", e)
    return Gone(session) if isinstance(e, NoResponders) else Silent(session)
