"""What passes between a device's `core` and the drivers: jobs, their outcomes, how often things are done. Values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from canopy.mapper.sdk import PropertyView, Reading

Chance: TypeAlias = Callable[[], float]
"""A number from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Waits that double from the first to the most, each between half and the whole of that, by chance."""

    first_seconds: float
    most_seconds: float

    def wait(self, attempts: int, chance: Chance) -> float:
        """Seconds to wait after so many attempts (from 1)."""
        whole = min(self.most_seconds, self.first_seconds * 2.0 ** min(attempts - 1, 60))
        return whole * (0.5 + chance() / 2)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done."""

    refresh_seconds: float = 60.0
    first_poll_within_seconds: float = 1.0
    offline: Waits = Waits(0.5, 30.0)
    rewrite: Waits = Waits(1.0, 60.0)
    resend: Waits = Waits(0.2, 10.0)


@dataclass(frozen=True, slots=True)
class Job:
    """What a driver is to do, in this order. `open` before the first read and after each failure."""

    open: bool = False
    write: tuple[tuple[PropertyView, str], ...] = ()
    read: tuple[PropertyView, ...] = ()
    cycles: frozenset[float] = frozenset()
    """The collect cycles (seconds) whose turn this is."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The device answered: what was read, what of the writes it refused for good, what failed this time."""

    reading: Reading = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unreachable:
    """The device did not answer, at any step of the job."""

    reason: str


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """The driver cannot make sense of the manifest."""

    reason: str


Outcome: TypeAlias = Answered | Unreachable | Misconfigured
