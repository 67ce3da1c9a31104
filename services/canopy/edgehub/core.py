"""The session with the cloud as a machine: one table of (state, event). No I/O: the shell (`session.py`, `handlers.py`)
brings events and the time, and carries out what comes back. RULES 13-16.

Times are seconds of one monotonic clock. An event that came of an ask bears the session in which the ask was sent;
what belongs to another session is late and means nothing.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

from canopy.contracts.wire import PROTOCOL, BeatAnswer, HelloAnswer, Limits, LinkState, Verdict
from canopy.runtime.backoff import Backoff

NEVER = float("inf")
HELLO_FIRST_SECONDS, HELLO_MOST_SECONDS = 0.2, 2.0
"""Between hellos that nobody answers: a node is back at most so long, and one unanswered hello, after CloudHub is. Each
one crosses the link (300 bytes); 10,000 nodes say some 5,000 a second, which a returning CloudHub tells to come later.
"""
LINK_DOWN_SECONDS = (0.5, 1.0)
"""Between hellos while the link itself is down: the leaf says so without sending anything."""
REFUSED_SECONDS = (20.0, 40.0)
"""After the cloud has refused this node: only a person or another release changes that."""
SUPERSEDED_FIRST_SECONDS, SUPERSEDED_MOST_SECONDS = 1.0, 16.0
"""Between two tries of who lost its session to another machine (RULES 15): two machines take it from each other every
16 s at most, and after one is gone the other is back within that time."""
SETTLED_SECONDS = 2 * SUPERSEDED_MOST_SECONDS
"""A session held that long ends a quarrel of two machines: their waits are shorter."""
CLOCK_SECONDS = 5.0
"""A difference of the clocks that is worth a line in the log."""


class State(Enum):
    """Where the session is."""

    AWAY = "away"
    GREETING = "greeting"
    UP = "up"
    SUPERSEDED = "superseded"


# --- events -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Due:
    """The time that `Link.due` names has come."""


@dataclass(frozen=True, slots=True)
class Hint:
    """Something shows that the link may be back: a push, a new connection to the leaf."""


@dataclass(frozen=True, slots=True)
class Greeted:
    """CloudHub answered the hello. `wall_ms` is our clock."""

    answer: HelloAnswer
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Beaten:
    """CloudHub answered a beat of `session` with ok."""

    session: int
    answer: BeatAnswer


@dataclass(frozen=True, slots=True)
class Refused:
    """CloudHub answered an ask of `session` (0: a hello) with another verdict than ok."""

    session: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Gone:
    """An ask found nobody: the link is down."""

    session: int


@dataclass(frozen=True, slots=True)
class Silent:
    """An ask brought no answer, however often it was sent: no CloudHub answers."""

    session: int


Event = Due | Hint | Greeted | Beaten | Refused | Gone | Silent


# --- actions ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SendHello:
    seen: int


@dataclass(frozen=True, slots=True)
class SendBeat:
    session: int


@dataclass(frozen=True, slots=True)
class SayLink:
    state: LinkState


@dataclass(frozen=True, slots=True)
class WantTwins:
    """The cloud wants DeviceTwin's page."""


@dataclass(frozen=True, slots=True)
class Complain:
    """A line for people; `loud`: something is wrong that only a person can mend."""

    text: str
    loud: bool = False


Action = SendHello | SendBeat | SayLink | WantTwins | Complain
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """What EdgeHub knows of its session. `session` is 0 unless up; `since` is when it began."""

    state: State = State.AWAY
    due: float = 0.0
    session: int = 0
    nonce: str = ""
    limits: Limits = field(default_factory=Limits)
    seen: int = 0
    since: float = 0.0
    said: LinkState = field(default_factory=lambda: LinkState(up=False, reason="starting"))
    eager: bool = True
    """A hint may shorten the wait."""


class Machine:
    """The session. `on` takes an event; `stamp` numbers a message; everything else is read from `link`."""

    def __init__(self, rng: random.Random) -> None:
        self.link = Link()
        self._rng, self._n = rng, 0
        self._hello = Backoff(HELLO_FIRST_SECONDS, HELLO_MOST_SECONDS, rng)
        self._quarrel = Backoff(SUPERSEDED_FIRST_SECONDS, SUPERSEDED_MOST_SECONDS, rng)
        self._compared = -NEVER

    @property
    def up(self) -> bool:
        return self.link.state is State.UP

    def on(self, event: Event, now: float) -> Actions:
        """Take an event; what is to be done about it, in order."""
        if _late(event, self.link):
            return ()
        return TABLE[self.link.state, type(event)](self, event, now)

    def stamp(self) -> tuple[int, int]:
        """(session, n) of the next message (RULES 16)."""
        self._n += 1
        return self.link.session, self._n

    def compares(self, pending: int, now: float, after_seconds: float) -> bool:
        """Whether a beat now bears the set's hash: not while states are on their way, unless long ago."""
        if pending and now - self._compared < after_seconds:
            return False
        self._compared = now
        return True

    # --- what the table names -----------------------------------------------------------------------------------------
    def nothing(self, event: Event, now: float) -> Actions:
        return ()

    def greet(self, event: Due, now: float) -> Actions:
        self.link = replace(self.link, state=State.GREETING, due=NEVER)
        return (SendHello(self.link.seen),)

    def hurry(self, event: Hint, now: float) -> Actions:
        if self.link.eager:
            self.link = replace(self.link, due=now)
        return ()

    def greeted(self, event: Greeted, now: float) -> Actions:
        answer = event.answer
        if not PROTOCOL[0] <= answer.protocol <= PROTOCOL[1]:
            return self._rejected(f"the cloud speaks protocol {answer.protocol}, this edge {PROTOCOL}", now)
        self._n, self._compared = 0, now
        self.link = Link(
            state=State.UP,
            due=now,
            session=answer.session,
            nonce=answer.nonce,
            limits=answer.limits,
            seen=max(self.link.seen, answer.session),
            since=now,
        )
        return (*self._clock(event), Complain(f"the cloud answers: session {answer.session}"), *self._say(True, ""))

    def beat(self, event: Due, now: float) -> Actions:
        self.link = replace(self.link, due=now + self.link.limits.beat_seconds * self._rng.uniform(0.8, 1.0))
        return (SayLink(self.link.said), SendBeat(self.link.session))

    def beaten(self, event: Beaten, now: float) -> Actions:
        self._hello.reset()
        if now - self.link.since > SETTLED_SECONDS:
            self._quarrel.reset()
        return (WantTwins(),) if event.answer.page else ()

    def gone(self, event: Gone, now: float) -> Actions:
        return self._away(now + self._rng.uniform(*LINK_DOWN_SECONDS), "the link is down")

    def silent(self, event: Silent, now: float) -> Actions:
        return self._away(now + self._hello.next_seconds(), "no CloudHub answers")

    def refused(self, event: Refused, now: float) -> Actions:
        match event.verdict.verdict:
            case "hello":
                return self._away(now + self._hello.next_seconds(), "the cloud does not know this session")
            case "superseded":
                return self._superseded(now)
            case "busy":
                return self._busy(event.verdict, now)
            case other:
                return self._rejected(f"the cloud says {other!r}: {event.verdict.reason}", now)

    # --- steps --------------------------------------------------------------------------------------------------------
    def _away(self, due: float, reason: str, state: State = State.AWAY, eager: bool = True) -> Actions:
        self.link = replace(self.link, state=state, due=due, session=0, nonce="", eager=eager)
        return self._say(False, reason)

    def _superseded(self, now: float) -> Actions:
        wait = self._quarrel.ceiling_seconds * self._rng.uniform(0.75, 1.0)
        self._quarrel.next_seconds()
        text = f"another machine bears this node's identity: its session took the place of ours; again in {wait:.1f} s"
        return (Complain(text, loud=True), *self._away(now + wait, "superseded", State.SUPERSEDED))

    def _busy(self, verdict: Verdict, now: float) -> Actions:
        due = now + max(0.1, verdict.retry_after_seconds) * self._rng.uniform(1.0, 1.5)
        if self.up:
            self.link = replace(self.link, due=due)
            return ()
        return self._away(due, "the cloud is busy", eager=False)

    def _rejected(self, why: str, now: float) -> Actions:
        actions = self._away(now + self._rng.uniform(*REFUSED_SECONDS), why, eager=False)
        return (Complain(why, loud=True), *actions)

    def _clock(self, event: Greeted) -> Actions:
        off = (event.wall_ms - event.answer.time) / 1000
        if abs(off) <= CLOCK_SECONDS or not event.answer.time:
            return ()
        return (Complain(f"this node's clock is {off:+.1f} s from the cloud's", loud=True),)

    def _say(self, up: bool, reason: str) -> Actions:
        most = self.link.limits.reports_per_batch
        state = LinkState(up=up, session=self.link.session, reason=reason, reports_per_batch=most)
        changed = state != self.link.said
        self.link = replace(self.link, said=state)
        return (SayLink(state),) if changed else ()


def _late(event: Event, link: Link) -> bool:
    """What came of an ask of another session; a hello's own outcome bears 0, and so does a link that greets."""
    return isinstance(event, Beaten | Refused | Gone | Silent) and event.session != link.session


_Step = Callable[[Machine, Any, float], Actions]
_A, _G, _U, _S, _M = State.AWAY, State.GREETING, State.UP, State.SUPERSEDED, Machine

TABLE: Mapping[tuple[State, type[Any]], _Step] = MappingProxyType(
    {
        (_A, Due): _M.greet,
        (_A, Hint): _M.hurry,
        (_A, Greeted): _M.nothing,
        (_A, Beaten): _M.nothing,
        (_A, Refused): _M.nothing,
        (_A, Gone): _M.nothing,
        (_A, Silent): _M.nothing,
        (_G, Due): _M.nothing,
        (_G, Hint): _M.nothing,
        (_G, Greeted): _M.greeted,
        (_G, Beaten): _M.nothing,
        (_G, Refused): _M.refused,
        (_G, Gone): _M.gone,
        (_G, Silent): _M.silent,
        (_U, Due): _M.beat,
        (_U, Hint): _M.hurry,
        (_U, Greeted): _M.nothing,
        (_U, Beaten): _M.beaten,
        (_U, Refused): _M.refused,
        (_U, Gone): _M.gone,
        (_U, Silent): _M.silent,
        (_S, Due): _M.greet,
        (_S, Hint): _M.nothing,
        (_S, Greeted): _M.nothing,
        (_S, Beaten): _M.nothing,
        (_S, Refused): _M.nothing,
        (_S, Gone): _M.nothing,
        (_S, Silent): _M.nothing,
    }
)
"""What each event does in each state. The session's life is this table."""
