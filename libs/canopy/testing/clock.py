"""A clock that stands still until the test moves it."""

import asyncio
import heapq
import itertools
import math

DEADLINE_SECONDS = 20.0
ROUNDS_TO_SETTLE = 20


class FrozenClock:
    """`canopy.runtime.clock.Clock`; `sleep` ends when `advance` has passed its time, in order of the times."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._seconds = 0.0
        self._start_ms = now_ms
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return self._start_ms + round(self._seconds * 1000)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiting = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._seconds + seconds, next(self._order), waiting))
        await waiting

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(event.wait())]
        if seconds != math.inf:
            waits.append(asyncio.ensure_future(self.sleep(seconds)))  # type: ignore[arg-type]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        event.clear()

    @property
    def sleepers(self) -> int:
        """How many sleep now."""
        return sum(not waiting.done() for _, _, waiting in self._sleepers)

    def step(self, seconds: float) -> None:
        """Move the wall clock alone, as an operator or NTP does; nobody wakes."""
        self._start_ms += round(seconds * 1000)

    async def advance(self, seconds: float) -> None:
        """Pass time; each sleeper wakes at its own moment and may do its work (and sleep again) before the next."""
        await self._settle()
        until = self._seconds + seconds
        while self._sleepers and self._sleepers[0][0] <= until:
            self._seconds, _, waiting = heapq.heappop(self._sleepers)
            if not waiting.done():
                waiting.set_result(None)
            await self._settle()
        self._seconds = until
        await self._settle()

    async def until_sleeping(self, count: int = 1) -> None:
        """Wait (real time, bounded) until that many sleep."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while self.sleepers < count:  # noqa: ASYNC110 - sleepers come from anywhere
                await asyncio.sleep(0.001)

    async def _settle(self) -> None:
        for _ in range(ROUNDS_TO_SETTLE):
            await asyncio.sleep(0)
