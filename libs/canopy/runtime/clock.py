"""Time as a dependency. Shells take a Clock; cores take the milliseconds. Tests use `canopy.testing.clock`."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall time in ms since 1970; may step."""

    def monotonic(self) -> float:
        """Seconds since some moment; never steps back."""

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
