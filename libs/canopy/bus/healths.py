"""Health of units on their bus: each says its checks at every change and on a slow timer; one listener gathers them.

Whoever runs a unit runs a HealthSender for it. EdgeHub gathers a node's units, every CloudHub those of the cloud.
A unit that falls silent shows as silent until another run of it is heard. Everything is bounded.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from msgspec.structs import replace

from canopy.bus.bus import Bus
from canopy.bus.dispatch import Place
from canopy.contracts import catalogue as c
from canopy.contracts.roles import ROLES
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import UnitCheck, UnitHealth
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health

LOOK_SECONDS = 0.5
SAY_SECONDS = 5.0
SILENT_SECONDS = 16.0
"""Three words were missed."""
MOST_RUNS = 16
MOST_CHECKS = 8
MOST_FACTS = 8
MAX_CHARACTERS = 200
PROTOCOL, LEADS = "protocol", "leads"
"""Facts: which protocol a mapper speaks; whether a replica of a controller leads ("yes", "no")."""


def health_of(health: Health, run: str) -> UnitHealth:
    """What a unit says of itself, as it travels."""
    checks = [UnitCheck(check=found.check, ok=found.ok, detail=found.detail) for found in health.checks]
    return bounded(UnitHealth(unit=health.unit, run=run, version=_VERSION, checks=checks, facts=health.facts))


def bounded(said: UnitHealth) -> UnitHealth:
    """Cut to what is carried on."""
    checks = [UnitCheck(check=_cut(f.check), ok=f.ok, detail=_cut(f.detail)) for f in said.checks[:MOST_CHECKS]]
    facts = {_cut(k): _cut(v) for k, v in list(said.facts.items())[:MOST_FACTS]}
    return UnitHealth(
        unit=said.unit[:64],
        run=said.run[:64],
        version=said.version[:64],
        checks=checks,
        facts=facts,
        silent_since=max(0, said.silent_since),
    )


def wrong(said: UnitHealth) -> str:
    """What is not well with a run of a unit, in one line; empty where all is."""
    if said.silent_since:
        return f"silent since {rfc3339(said.silent_since)}"
    if not said.checks:
        return "starting"
    return "; ".join(f"{f.check}: {f.detail or 'not ok'}" for f in said.checks if not f.ok)


def by_unit(units: Iterable[UnitHealth]) -> dict[str, str]:
    """What is not well, by unit; "ok" where all is."""
    found: dict[str, list[str]] = {}
    for one in units:
        found.setdefault(one.unit, []).append(wrong(one))
    return {unit: "; ".join(filter(None, texts))[:MAX_CHARACTERS] or "ok" for unit, texts in found.items()}


class HealthSender:
    """Says a unit's health. `run` until cancelled."""

    def __init__(self, bus: Bus, health: Health, clock: Clock) -> None:
        self._bus, self._health, self._clock = bus, health, clock
        self._run = secrets.token_hex(4)
        self._said: UnitHealth | None = None
        self._due = 0.0

    async def run(self) -> None:
        """Look twice a second, say what changed, and all of it every SAY_SECONDS."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look."""
        now, health = self._clock.monotonic(), health_of(self._health, self._run)
        if self._bus.connection.connected and (health != self._said or now >= self._due):
            self._said, self._due = health, now + SAY_SECONDS
            await _say(self._bus, health)


async def _say(bus: Bus, health: UnitHealth) -> None:
    if c.HUB_HEALTH in ROLES[bus.unit].says:
        await bus.say(c.HUB_HEALTH, health)
    else:
        await bus.say(c.CLOUD_HEALTH, health, unit=bus.unit)


def sends(unit: str) -> bool:
    """Whether a unit's health goes out by a HealthSender; EdgeHub's is gathered where it is."""
    return bool({c.HUB_HEALTH, c.CLOUD_HEALTH} & set(ROLES[unit].says))


@dataclass(frozen=True, slots=True)
class Heard:
    """The last word of one run of a unit: when it came, by both clocks."""

    at: float
    at_ms: int
    health: UnitHealth


Runs = Mapping[tuple[str, str], Heard]


class Gathered:
    """The units that were heard. Those of `expected` show as silent also when they never were; `own` is right here."""

    def __init__(self, clock: Clock, expected: Iterable[str], own: Health | None = None) -> None:
        self._clock, self._expected, self._own = clock, tuple(expected), own
        self._began, self._began_ms = clock.monotonic(), clock.now_ms()
        self._heard: dict[tuple[str, str], Heard] = {}
        self._run = secrets.token_hex(4)

    async def heard(self, message: UnitHealth, place: Place[Any]) -> None:
        """A unit says its health; in the cloud the subject names it."""
        said = bounded(replace(message, unit=place.tokens.get("unit", message.unit), silent_since=0))
        self._heard[said.unit, said.run] = Heard(self._clock.monotonic(), self._clock.now_ms(), said)
        while len(self._heard) > MOST_RUNS:
            del self._heard[min(self._heard, key=lambda run: self._heard[run].at)]

    def units(self) -> list[UnitHealth]:
        """All of them, by name."""
        now = self._clock.monotonic()
        found = shown(self._heard, now)
        if self._own is not None:
            found.append(health_of(self._own, self._run))
        if now - self._began >= SILENT_SECONDS:
            there = {one.unit for one in found}
            found += [UnitHealth(unit=u, silent_since=self._began_ms) for u in self._expected if u not in there]
        return sorted(found, key=lambda one: (one.unit, one.run))


def shown(heard: Runs, now: float, silent_seconds: float = SILENT_SECONDS) -> list[UnitHealth]:
    """Each run that is heard; one that fell silent only while no other run took its place."""
    alive = {run: one for run, one in heard.items() if now - one.at < silent_seconds}
    places = {_place(one.health) for one in alive.values()}
    last: dict[tuple[str, str], Heard] = {}
    for one in sorted(heard.values(), key=lambda h: h.at):
        if _place(one.health) not in places:
            last[_place(one.health)] = one
    silent = [replace(one.health, silent_since=one.at_ms) for one in last.values()]
    return [one.health for one in alive.values()] + silent


def _place(health: UnitHealth) -> tuple[str, str]:
    """What another run can take over: a unit, a mapper's protocol."""
    return health.unit, health.facts.get(PROTOCOL, "")


def _cut(text: str) -> str:
    return text[:MAX_CHARACTERS]


_VERSION = version("canopy")

Read = Callable[[], list[UnitHealth]]
