"""One device of the mapper: what to do with it next, what to say of it. Pure; time and chance are arguments.

`runner` owns the devices and asks three things: when is the next job (`next_at`), what is it (`job`), and, when the
driver has done it, what follows (`took`). In the same way it asks for reports (`report_at`, `report`, `answered`).
Nothing waits in a queue: of each property only the newest value is to be said, only the newest desired one written.

    unknown, offline --(opened, read)--> online --(unreachable)--> offline      any --(bad configuration)--> unhealthy
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from canopy.contracts.wire import (
    MISCONFIGURED,
    UNREACHABLE,
    MapperReport,
    MapperResult,
)
from canopy.mapper import values as texts
from canopy.mapper.ailments import Ailments
from canopy.mapper.jobs import Answered, Chance, Job, Misconfigured, Outcome, Pace
from canopy.mapper.sdk import BadValue, DeviceView, PropertyFailed, PropertyView, Reading

Notes: TypeAlias = list[str]
"""What an operator should read, each once."""

NEVER = math.inf
MIN_CYCLE_MS = 50
TOGETHER_SECONDS = 0.005
"""What is due within this time is read together."""
MAX_REPORT_BYTES = 128 * 1024
"""One report stays far below what a message may hold; what is left over goes with the next."""


class State(StrEnum):
    """What is said of a device. unhealthy: its configuration is wrong, nothing is tried until that changes."""

    UNKNOWN = "unknown"
    ONLINE = "online"
    OFFLINE = "offline"
    UNHEALTHY = "unhealthy"


def _since_1970(now: float) -> int:
    return round(now * 1000)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A desired value: in the words of the one who wants it, as it is written, and when to write it (again)."""

    words: str
    value: str
    at: float
    attempts: int = 0


class Device:
    """One device, as long as its uid and digest stay the same."""

    def __init__(
        self, view: DeviceView, pace: Pace, now: float, chance: Chance, wall: Callable[[float], int] = _since_1970
    ) -> None:
        """`wall` turns a time of ours into ms since 1970."""
        self.view = view
        self.state = State.UNKNOWN
        self.opened = False
        self.leaving = False
        self.values: dict[str, str] = {}
        self.wanted: dict[str, Wanted] = {}
        self.report_at = NEVER
        self._pace = pace
        self._properties = {p.name: p for p in view.properties}
        cycles = {_cycle(p) for p in view.properties} or {NEVER}
        first = now + chance() * min(pace.first_poll_within_seconds, *cycles)
        self._due = dict.fromkeys(cycles, first)
        self._failures = 0
        self._retry_at = NEVER
        self._refresh_at = now + pace.refresh_seconds
        self._unsaid: dict[str, str] = {}
        self._unsaid_state = False
        self._sending = False
        self._resends = 0
        self._words: dict[str, str] = {}
        self._ailments = Ailments(wall)
        self._report_trouble = ""

    # --- jobs ------------------------------------------------------------------------------------------------------
    def next_at(self) -> float:
        """When the next job is due."""
        if self.leaving:
            return -NEVER
        if self.state is State.UNHEALTHY:
            return NEVER
        if self._failures:
            return self._retry_at
        return min(*self._due.values(), self._next_write()) if self.opened else min(self._due.values())

    def job(self, now: float) -> Job:
        """What is to be done now. A device that has to be opened is then read whole."""
        write = tuple((self._properties[n], w.value) for n, w in self.wanted.items() if w.at <= now)
        if not self.opened:
            return Job(open=True, write=write, read=self.view.properties, cycles=frozenset(self._due))
        names = {p.name for p, _ in write}
        due = frozenset(cycle for cycle, at in self._due.items() if at <= now + TOGETHER_SECONDS)
        read = tuple(p for p in self.view.properties if p.name in names or _cycle(p) in due)
        return Job(write=write, read=read, cycles=due)

    def took(self, job: Job, outcome: Outcome, now: float, chance: Chance) -> Notes:
        """The job is done. Returns what to note."""
        if isinstance(outcome, Answered):
            return self._answered(job, outcome, now, chance)
        self.opened = False
        if isinstance(outcome, Misconfigured):
            return self.misconfigured(outcome.reason, now)
        self._ailments.of_device(UNREACHABLE, outcome.reason, now)
        self._failures += 1
        self._retry_at = now + self._pace.offline.wait(self._failures, chance)
        return self._enter(State.OFFLINE, now, outcome.reason)

    def misconfigured(self, reason: str, now: float) -> Notes:
        """Nothing can be made of the manifest: nothing is tried until it changes."""
        self._ailments.of_device(MISCONFIGURED, reason, now)
        return self._enter(State.UNHEALTHY, now, reason)

    def leave(self) -> None:
        """The device is gone or has changed: what is left to do is to close it."""
        self.leaving = True
        self.report_at = NEVER

    def retry(self, now: float) -> None:
        """Another device on the same line came back: this one may have, too."""
        self._retry_at = min(self._retry_at, now)

    @property
    def waits_to_retry(self) -> bool:
        return self._failures > 0 and self.state is State.OFFLINE

    def _answered(self, job: Job, outcome: Answered, now: float, chance: Chance) -> Notes:
        self.opened, self._failures, self._retry_at = True, 0, NEVER
        self._plan_polls(job, now)
        self._ailments.device_answered(now)
        notes = self._enter(State.ONLINE, now, "")
        notes += self._after_writes(job, outcome, now, chance)
        notes += [n for p in job.read for n in self._take(p, outcome.reading, now)]
        self._ailments.keep_writes(self.wanted)
        self._refresh(now)
        self._due_report(now)
        return notes

    def _plan_polls(self, job: Job, now: float) -> None:
        for cycle in job.cycles:
            at = self._due[cycle] + cycle
            self._due[cycle] = at if now < at <= now + cycle else now + cycle

    def _take(self, prop: PropertyView, reading: Reading, now: float) -> Notes:
        said = reading.get(prop.name)
        if said is None:
            return []
        try:
            if isinstance(said, PropertyFailed):
                raise said
            value = texts.reported(prop, said)
        except PropertyFailed as e:
            new = self._ailments.unread(prop.name, str(e), now)
            return [f"{self.view}: property {prop.name} cannot be read: {e}"] if new else []
        notes = [f"{self.view}: property {prop.name} is read again"] if self._ailments.read(prop.name, now) else []
        self._set(prop, value)
        return notes

    def _set(self, prop: PropertyView, value: str) -> None:
        words = self._words.get(prop.name, value)
        value = words if texts.same(prop, words, value) else value
        if self.values.get(prop.name) != value:
            self.values[prop.name] = self._unsaid[prop.name] = value
        wanted = self.wanted.get(prop.name)
        if wanted is not None and texts.same(prop, wanted.words, value):
            del self.wanted[prop.name]

    def _refresh(self, now: float) -> None:
        if now >= self._refresh_at:
            self._say_all()
            self._refresh_at = now + self._pace.refresh_seconds

    def _enter(self, state: State, now: float, reason: str) -> Notes:
        if state is self.state:
            return []
        self.state = state
        if state is State.ONLINE:
            self._say_all()
        self._unsaid_state = True
        self._due_report(now)
        return [f"{self.view} is {state}" + (f": {reason}" if reason else "")]

    # --- desired values --------------------------------------------------------------------------------------------
    def want(self, desired: Mapping[str, str], now: float) -> Notes:
        """What the device should be set to: all of it, so what is not named any more is no longer wanted."""
        self.wanted = {n: w for n, w in self.wanted.items() if desired.get(n) == w.words}
        self._ailments.keep_writes(self.wanted)
        notes = [note for n, v in desired.items() if n not in self.wanted for note in self._want(n, v, now)]
        self._due_report(now)
        return notes

    def _want(self, name: str, words: str, now: float) -> Notes:
        prop = self._properties.get(name)
        if prop is None:
            return self._refuse(name, words, "the DeviceModel has no such property", now)
        try:
            value = texts.desired(prop, words)
        except BadValue as e:
            return self._refuse(name, words, str(e), now)
        self._words[name] = words
        if name in self.values and texts.same(prop, self.values[name], words):
            self._agree(prop, words, now)
        else:
            self.wanted[name] = Wanted(words, value, now)
        return []

    def _refuse(self, name: str, words: str, why: str, now: float) -> Notes:
        """Not even tried, until something else is wanted."""
        self.wanted[name] = Wanted(words, words, NEVER)
        self._ailments.unwritten(name, why, now, for_good=True)
        return [f"{self.view}: {name} is not set to {words!r}: {why}"]

    def _agree(self, prop: PropertyView, words: str, now: float) -> None:
        """The device has this value already, but whoever wants it has not heard so, or not in these words."""
        self.values[prop.name] = self._unsaid[prop.name] = words
        self.wanted[prop.name] = Wanted(words, texts.desired(prop, words), now + self._pace.rewrite.first_seconds)
        self._due_report(now)

    def _next_write(self) -> float:
        return min((w.at for w in self.wanted.values()), default=NEVER)

    def _after_writes(self, job: Job, outcome: Answered, now: float, chance: Chance) -> Notes:
        for prop, value in job.write:
            self._after_write(prop, value, outcome, now, chance)
        said = {**outcome.refused, **outcome.failed}
        return [f"{self.view}: {p.name} is not set to {v!r}: {said[p.name]}" for p, v in job.write if p.name in said]

    def _after_write(self, prop: PropertyView, value: str, outcome: Answered, now: float, chance: Chance) -> None:
        if prop.name in self.values:
            self._unsaid[prop.name] = self.values[prop.name]
        wanted = self.wanted.get(prop.name)
        if wanted is None or wanted.value != value:
            return
        for said, for_good in ((outcome.failed, False), (outcome.refused, True)):
            if prop.name in said:
                self._ailments.unwritten(prop.name, said[prop.name], now, for_good)
        attempts = wanted.attempts + 1
        at = NEVER if prop.name in outcome.refused else now + self._pace.rewrite.wait(attempts, chance)
        self.wanted[prop.name] = replace(wanted, at=at, attempts=attempts)

    # --- reports ---------------------------------------------------------------------------------------------------
    def report(self, mapper: str, seq: int) -> MapperReport | None:
        """The newest of what is not yet known to be stored; None where there is nothing, or one is under way."""
        if self._sending or self.leaving or not self._unsaid_any:
            return None
        self._sending, self.report_at = True, NEVER
        values = dict(self._fitting())
        return MapperReport(
            namespace=self.view.namespace,
            name=self.view.name,
            mapper=mapper,
            seq=seq,
            values=values,
            types={n: self._properties[n].type for n in values},
            state=str(self.state) if self._unsaid_state else "",
            problems=self._ailments.to_say(),
        )

    def answered(self, report: MapperReport, result: MapperResult, now: float, chance: Chance) -> Notes:
        """A report was answered. Only `ok` means that it is stored; anything else is said again later."""
        if result.outcome != "ok":
            self.unanswered(now, chance)
            trouble = f"{result.outcome}: {result.reason}"
            known, self._report_trouble = self._report_trouble, trouble
            return [] if known == trouble else [f"{self.view}: the twin did not take the report, {trouble}"]
        self._sending, self._resends, self._report_trouble = False, 0, ""
        self._unsaid = {n: v for n, v in self._unsaid.items() if report.values.get(n) != v}
        self._unsaid_state = self._unsaid_state and report.state != self.state
        self._ailments.stored(report.problems)
        self._due_report(now)
        return self.want(result.desired, now)

    def unanswered(self, now: float, chance: Chance) -> None:
        """Nobody answered: the newest is said again after a while."""
        self._sending = False
        self._resends += 1
        self.report_at = now + self._pace.resend.wait(self._resends, chance)

    def _fitting(self) -> Iterator[tuple[str, str]]:
        room = MAX_REPORT_BYTES
        for name, value in self._unsaid.items():
            room -= len(name) + len(value.encode())
            if room < 0:
                return
            yield name, value

    def _say_all(self) -> None:
        self._unsaid = dict(self.values)
        self._unsaid_state = True
        self._ailments.say_all()

    @property
    def _unsaid_any(self) -> bool:
        return bool(self._unsaid) or self._unsaid_state or self._ailments.changed

    def _due_report(self, now: float) -> None:
        waits = self._sending or self.leaving or self._resends > 0
        if not waits and self._unsaid_any:
            self.report_at = min(self.report_at, now)


def _cycle(prop: PropertyView) -> float:
    """Seconds between two reads of a property."""
    return max(prop.collect_cycle_ms, MIN_CYCLE_MS) / 1000
