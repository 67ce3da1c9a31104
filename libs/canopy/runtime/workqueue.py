"""Which dirty key is worked on next: each once at a time and once in its interval, oldest first, within a budget. Pure.

Time is monotonic seconds, given by the caller. The controllers' leaders take keys (a device, a node) and say how it
went; what they have written counts against the budget, what they only looked at does not.
"""

import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
FIRST_RETRY_SECONDS = 0.2
MOST_RETRY_SECONDS = 30.0
MOST_AWAY_SECONDS = 2.0
"""Between looks at a key while another part is away: soon after it is back the key is worked on. What many such keys
cost meanwhile is bounded by the budget, which these looks use up."""
MOST_RETRIES = 8


class Budget:
    """A token bucket: `per_second` writes, and after quiet `at_first` at once (without it, as many as in a second)."""

    def __init__(self, per_second: float, at_first: int = 0) -> None:
        self._rate, self._most = per_second, max(1.0, per_second, float(at_first))
        self._tokens, self._at = self._most, 0.0

    def wait_seconds(self, now: float) -> float:
        """How long until one write may go; 0: now."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def spend(self, now: float) -> None:
        self._fill(now)
        self._tokens -= 1.0

    def give_back(self) -> None:
        """What was spent was not used."""
        self._tokens = min(self._most, self._tokens + 1.0)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now


class Queue(Generic[K]):
    """Dirty keys. A key is waiting (not yet due), ready (ordered by since when it is dirty), or in hand."""

    def __init__(self, interval_seconds: float, budget: Budget) -> None:
        self._interval, self._budget = interval_seconds, budget
        self._dirty: dict[K, tuple[float, int]] = {}  # since when, and which entry of the heaps is the valid one
        self._waiting: list[tuple[float, int, K]] = []
        self._ready: list[tuple[float, int, K]] = []
        self._in_hand: dict[K, float] = {}
        self._again: dict[K, float] = {}
        self._hurried: set[K] = set()
        self._free_at: dict[K, float] = {}  # when a key that was written may be written again
        self._retries: dict[K, int] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        """How many keys are dirty or in hand."""
        return len(self._dirty) + len(self._in_hand)

    def oldest_seconds(self, now: float) -> float:
        """For how long the key that is dirty for longest has been so; 0: none is. Looks at all of them."""
        since = min((s for s, _ in self._dirty.values()), default=now)
        return now - min(since, min(self._in_hand.values(), default=now))

    def mark(self, key: K, now: float, hurry: bool = False) -> None:
        """`key` is dirty; it goes at once, unless it was written within the interval.

        `hurry`: something happened that it may have waited for, so it need not wait to be looked at again.
        """
        if key in self._in_hand:
            self._again.setdefault(key, now)
            if hurry:
                self._hurried.add(key)
        elif key not in self._dirty:
            self._put(key, now, now)
        elif hurry and key in self._retries:
            self._put(key, self._dirty[key][0], now)

    def take(self, now: float) -> K | None:
        """The key that is dirty for longest and may go, if the budget allows it; it is in hand until `done`."""
        self._ripen(now)
        if not self._ready or self._budget.wait_seconds(now):
            return None
        self._budget.spend(now)
        since, _, key = heapq.heappop(self._ready)
        del self._dirty[key]
        self._in_hand[key] = since
        return key

    def wait_seconds(self, now: float) -> float | None:
        """How long until `take` may give one; None: until something is marked."""
        self._ripen(now)
        if self._ready:
            return self._budget.wait_seconds(now)
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None

    def starved(self, now: float) -> bool:
        """True if something is ready and only the budget holds it."""
        self._ripen(now)
        return bool(self._ready) and self._budget.wait_seconds(now) > 0

    def done(self, key: K, now: float, *, wrote: bool, again: bool = False, away: bool = False) -> float:
        """`key` was looked at. `again`: look once more, later each time; `away`: it is not for the key but for a part
        that does not answer. Returns for how many seconds it was dirty."""
        since = self._in_hand.pop(key)
        if wrote:
            self._hold(key, now)
        elif not away:
            self._budget.give_back()
        marked = self._again.pop(key, None)
        if key in self._hurried:  # what it may have waited for came while it was looked at
            self._hurried.discard(key)
            self._retries.pop(key, None)
        if again or away:
            self._put(key, since, now + self._backoff(key, MOST_AWAY_SECONDS if away else MOST_RETRY_SECONDS))
        else:
            self._retries.pop(key, None)
            if marked is not None:
                self.mark(key, marked)
        return now - since

    def _hold(self, key: K, now: float) -> None:
        """Kept in order of time, so that what is over stands first."""
        self._free_at.pop(key, None)
        self._free_at[key] = now + self._interval
        while (first := next(iter(self._free_at))) != key and self._free_at[first] <= now:
            del self._free_at[first]

    def _backoff(self, key: K, most_seconds: float) -> float:
        tries = self._retries[key] = min(self._retries.get(key, 0) + 1, MOST_RETRIES)
        return min(most_seconds, FIRST_RETRY_SECONDS * 2.0 ** (tries - 1))

    def _put(self, key: K, since: float, due: float) -> None:
        order = next(self._order)
        self._dirty[key] = (since, order)
        heapq.heappush(self._waiting, (max(due, self._free_at.get(key, 0.0)), order, key))

    def _ripen(self, now: float) -> None:
        """Move what is due to the ready ones, and throw away what a later `_put` has replaced."""
        while self._waiting and self._waiting[0][0] <= now:
            _, order, key = heapq.heappop(self._waiting)
            if self._valid(order, key):
                heapq.heappush(self._ready, (self._dirty[key][0], order, key))
        while self._ready and not self._valid(*self._ready[0][1:]):
            heapq.heappop(self._ready)

    def _valid(self, order: int, key: K) -> bool:
        return key in self._dirty and self._dirty[key][1] == order
