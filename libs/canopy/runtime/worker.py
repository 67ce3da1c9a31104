"""Works a Queue: several keys at once, each by one `handle`, until cancelled. Controllers' leaders run one or two."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Counter
from canopy.runtime.workqueue import Queue

log = logging.getLogger("canopy.worker")
BUG_TRIES = 5
"""Of a key whose work raises what nobody expected, before it is set aside; it is worked on when it is marked again."""
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Worked:
    """How it went: `wrote` counts against budget and interval, `again` brings the key back with backoff; so does
    `away`, a short one: the part that was needed does not answer, whatever the key."""

    wrote: bool = False
    again: bool = False
    away: bool = False


class Failures:
    """Work that failed: counted in `counter`, and said once for all keys while a part is `away`, else of each key."""

    def __init__(self, counter: Counter, away: tuple[type[Exception], ...], say_again_seconds: float = 30.0) -> None:
        self._counter, self._away, self._say = counter, away, once_per(say_again_seconds)

    def worked(self, what: str, error: Exception) -> Worked:
        """What comes of it: the key is worked on again."""
        self._counter.add()
        away = isinstance(error, self._away)
        if self._say(type(error).__name__ if away else what):
            log.info("%s%s: %s; trying on", what, " and maybe others" if away else "", error)
        return Worked(again=True, away=away)


class Worker(Generic[K]):
    """`on_done` hears for how many seconds a key was dirty; `on_starved`: only the budget holds one."""

    def __init__(
        self,
        queue: Queue[K],
        handle: Callable[[K], Awaitable[Worked]],
        clock: Clock,
        concurrency: int,
        on_done: Callable[[Worked, float], None] = lambda worked, seconds: None,
        on_starved: Callable[[], None] = lambda: None,
        letters: DeadLetters | None = None,
    ) -> None:
        self._letters = letters if letters is not None else DeadLetters("")
        self._bugs: dict[K, int] = {}
        self.queue, self._handle, self._clock = queue, handle, clock
        self._most, self._on_done, self._on_starved = concurrency, on_done, on_starved
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    def mark(self, key: K, hurry: bool = False) -> None:
        """`key` is dirty (see Queue.mark)."""
        self.queue.mark(key, self._clock.monotonic(), hurry)
        self._wake.set()

    async def run(self) -> None:
        try:
            while True:
                await self._step()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _step(self) -> None:
        now = self._clock.monotonic()
        room = len(self._tasks) < self._most
        key = self.queue.take(now) if room else None
        if key is not None:
            self._begin(key)
            return
        if room and self.queue.starved(now):
            self._on_starved()
        seconds = self.queue.wait_seconds(now) if room else None
        await self._clock.wait(self._wake, math.inf if seconds is None else seconds)

    def _begin(self, key: K) -> None:
        task = asyncio.get_running_loop().create_task(self._work(key))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        """Room first, then the word of it: who is woken before sees none, and would sleep on."""
        self._tasks.discard(task)
        self._wake.set()

    def _failed(self, key: K, bug: Exception) -> Worked:
        log.warning("working on %s: %r", key, bug)
        tries = self._bugs[key] = self._bugs.get(key, 0) + 1
        if tries < BUG_TRIES:
            return Worked(again=True)
        del self._bugs[key]
        self._letters.failed(f"work on {key}", bug, tries=tries)
        return Worked()

    async def _work(self, key: K) -> None:
        try:
            worked = await self._handle(key)
        except Exception as bug:
            worked = self._failed(key, bug)
        else:
            self._bugs.pop(key, None)
        now = self._clock.monotonic()
        self._on_done(worked, self.queue.done(key, now, wrote=worked.wrote, again=worked.again, away=worked.away))
