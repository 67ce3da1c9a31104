"""When a delta is said again: with backoff and jitter, until the device agrees. Pure; time comes as an argument."""

import heapq
import random
from dataclasses import dataclass

from canopy.contracts.wire import Name
from canopy.runtime.backoff import Backoff

FIRST_SECONDS = 1.0
MOST_SECONDS = 60.0


@dataclass(slots=True)
class _Due:
    wanted: dict[str, str]
    backoff: Backoff
    at: float = 0.0


class Repeats:
    """For each device that differs: what it should be, and when to say so again (seconds of a monotonic clock)."""

    def __init__(
        self, rng: random.Random, first_seconds: float = FIRST_SECONDS, most_seconds: float = MOST_SECONDS
    ) -> None:
        self._rng, self._first, self._most = rng, first_seconds, most_seconds
        self._due: dict[Name, _Due] = {}
        self._heap: list[tuple[float, Name]] = []

    def __len__(self) -> int:
        return len(self._due)

    def note(self, name: Name, wanted: dict[str, str], now: float) -> None:
        """What the device should be set to now; nothing ends the repeats, something new begins them anew."""
        held = self._due.get(name)
        if not wanted:
            self._due.pop(name, None)
        elif held is None or held.wanted != wanted:
            self._due[name] = due = _Due(wanted, Backoff(self._first, self._most, self._rng))
            self._set(name, due, now)

    def take(self, now: float) -> list[Name]:
        """The devices whose time has come; each is due again later."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            at, name = heapq.heappop(self._heap)
            due = self._due.get(name)
            if due is not None and due.at == at:
                found.append(name)
                self._set(name, due, now)
        return found

    def next_at(self) -> float | None:
        """When `take` has something, at the earliest."""
        return self._heap[0][0] if self._heap else None

    def _set(self, name: Name, due: _Due, now: float) -> None:
        due.at = now + due.backoff.ceiling_seconds / 2 + due.backoff.next_seconds() / 2
        heapq.heappush(self._heap, (due.at, name))
