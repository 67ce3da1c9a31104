"""When it is whose turn: one heap for all devices, and lines on which only one is served at a time. Pure.

The runner keeps two: one of jobs (a line is what `Driver.line` says) and one of reports (a line is a lane to the twin).
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import TypeAlias

Key: TypeAlias = tuple[str, str]
"""(namespace, name) of a device."""


class Schedule:
    """Devices, each with a line and a time. `take` hands out those whose turn it is, until `finished` or for good."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, Key]] = []
        self._when: dict[Key, float] = {}
        self._line: dict[Key, str] = {}
        self._waiting: dict[str, deque[Key]] = {}
        self._running: dict[Key, str] = {}
        self._busy: set[str] = set()

    def put(self, key: Key, line: str, when: float, *, first: bool = False) -> None:
        """Give `key` its next turn at `when`, in place of an earlier word. `first`: before others who wait."""
        if key in self._running or self._already_waits(key, line, first):
            return
        self._line[key] = line
        if when == float("inf"):
            self._when.pop(key, None)
        elif self._when.get(key) != when:
            self._when[key] = when
            heapq.heappush(self._heap, (when, key))
        if first:
            self._move_up(key, when)

    def take(self, now: float) -> list[Key]:
        """Those whose time has come and whose line is free. Each line is busy until `finished` is said of it."""
        while self._heap and self._heap[0][0] <= now:
            when, key = heapq.heappop(self._heap)
            if self._when.get(key) == when:
                del self._when[key]
                self._waiting.setdefault(self._line[key], deque()).append(key)
        return list(self._start())

    def finished(self, key: Key) -> None:
        """The turn of `key` is over: its line is free for the next."""
        self._busy.discard(self._running.pop(key))

    def drop(self, key: Key) -> None:
        """Forget `key`."""
        self._when.pop(key, None)
        line = self._line.pop(key, None)
        if line is not None and key in self._waiting.get(line, ()):
            self._waiting[line].remove(key)

    def next_at(self) -> float:
        """When somebody's time comes."""
        while self._heap and self._when.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")

    def running(self, key: Key) -> bool:
        return key in self._running

    def _start(self) -> Iterator[Key]:
        for line in [line for line in self._waiting if line not in self._busy]:
            waiting = self._waiting[line]
            if waiting:
                key = waiting.popleft()
                self._busy.add(line)
                self._running[key] = line
                yield key
            if not waiting:
                del self._waiting[line]

    def _already_waits(self, key: Key, line: str, first: bool) -> bool:
        waiting = self._waiting.get(line)
        if waiting is None or key not in waiting:
            return False
        if first:
            waiting.remove(key)
            waiting.appendleft(key)
        return True

    def _move_up(self, key: Key, when: float) -> None:
        """Wait at the head of the line, whatever the time: used for what is due now."""
        self._when.pop(key, None)
        self._waiting.setdefault(self._line[key], deque()).appendleft(key)
