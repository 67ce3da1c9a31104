"""What may be on the link at once: a few batches of reports, one page, and reports go first. For `handlers.py`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PAGE_PATIENCE_SECONDS = 2.0
"""A page lets waiting reports go first, but no longer than this: both directions must get on."""


class Lanes:
    """Take a turn with `async with lanes.report()` or `lanes.page()`."""

    def __init__(self, reports_at_once: int, page_patience_seconds: float = PAGE_PATIENCE_SECONDS) -> None:
        self._patience_seconds = page_patience_seconds
        self._reports = asyncio.Semaphore(reports_at_once)
        self._page = asyncio.Lock()
        self._waiting = 0
        self._none_waits = asyncio.Event()
        self._none_waits.set()

    @asynccontextmanager
    async def report(self) -> AsyncIterator[None]:
        self._count(1)
        try:
            await self._reports.acquire()
        finally:
            self._count(-1)
        try:
            yield
        finally:
            self._reports.release()

    @asynccontextmanager
    async def page(self) -> AsyncIterator[None]:
        async with self._page:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience_seconds):
                    await self._none_waits.wait()
            yield

    def _count(self, by: int) -> None:
        self._waiting += by
        (self._none_waits.clear if self._waiting else self._none_waits.set)()
