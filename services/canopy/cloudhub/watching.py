"""Who watches live twins: a bounded queue each, filled from the stream TWINS. `following` fills, the API empties."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from canopy.cloudhub.counts import Counts
from canopy.contracts.wire import Name


class TooManyWatchers(Exception):
    """As many watch as may."""


@dataclass(frozen=True, slots=True)
class Event:
    """`changed`: a record as TWINS holds it; `again`: begin with the state anew; `slow`, `closed`: it is over."""

    kind: Literal["changed", "again", "slow", "closed"]
    data: bytes = b""


@dataclass(eq=False, slots=True)
class Watch:
    """One watcher. `wants(node, key)` is asked before anything is queued."""

    wants: Callable[[str, Name], bool]
    queue: "asyncio.Queue[Event]"
    over: Event | None = field(default=None)

    async def next(self) -> Event:
        """The next event; when the watch is over, the one that says so, again and again."""
        if self.over is not None:
            return self.over
        return await self.queue.get()

    def end(self, event: Event) -> None:
        """What still waits is dropped."""
        self.over = event
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(event)


class Watchers:
    """At most `most` watches, of `queue_events` waiting events each; who is slower than that loses the watch."""

    def __init__(self, counts: Counts, most: int = 200, queue_events: int = 1000) -> None:
        self._counts, self._most, self._queue_events = counts, most, queue_events
        self._watches: set[Watch] = set()
        self._closed = False

    @contextmanager
    def watch(self, wants: Callable[[str, Name], bool]) -> Iterator[Watch]:
        """Until the block ends. Raises TooManyWatchers."""
        if len(self._watches) >= self._most or self._closed:
            raise TooManyWatchers(f"{self._most} watches are open, which is the most; try again later")
        watch = Watch(wants, asyncio.Queue(self._queue_events))
        self._watches.add(watch)
        self._counts.watchers.set(len(self._watches))
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            self._counts.watchers.set(len(self._watches))

    def changed(self, node: str, key: Name, data: bytes) -> None:
        """A record is new in TWINS."""
        for watch in self._watches:
            if watch.over is None and watch.wants(node, key):
                self._put(watch, Event("changed", data))

    def begin_again(self) -> None:
        """The stream was read from the beginning: what came meanwhile was not told one by one."""
        for watch in self._watches:
            if watch.over is None:
                self._put(watch, Event("again"))

    def close(self) -> None:
        """End every watch: the unit ends."""
        self._closed = True
        for watch in list(self._watches):
            watch.end(Event("closed"))

    def _put(self, watch: Watch, event: Event) -> None:
        try:
            watch.queue.put_nowait(event)
        except asyncio.QueueFull:
            self._counts.dropped.add(what="watch")
            watch.end(Event("slow"))
