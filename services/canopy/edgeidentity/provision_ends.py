"""A certificate that ends also ends the connection that was opened with it: nats-server looks at it only then.

All connections of that device are closed; one that has a newer certificate is back at once. An app whose last one has
ended is no guest of the leaf any more. `unit` runs it.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from canopy.bus import AskFailed
from canopy.contracts.wire import Name
from canopy.edgeidentity.provision_book import Book
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.edgeidentity")


class Closing(Protocol):
    """What is asked of the leaf."""

    async def close(self, user: str) -> int:
        """Close every connection of a user; how many there were. Raises AskFailed."""


class Ends:
    """`run` until cancelled. `apps` is called when an app is no guest any more."""

    def __init__(
        self, leaf: Closing, book: Book, audit: AuditLog, clock: Clock, look_seconds: float, apps: Callable[[], None]
    ) -> None:
        self._leaf, self._book, self._audit, self._clock = leaf, book, audit, clock
        self._look_seconds, self._apps = look_seconds, apps
        self._guests: set[str] = set()

    async def run(self) -> None:
        while True:
            await self.look()
            await self._clock.sleep(self._look_seconds)

    async def look(self) -> None:
        """Carry out what has ended; a leaf that is away has no connections, and is asked again."""
        now = self._clock.now_ms()
        guests = {name for name, _ in self._book.apps(now)}
        if self._guests - guests:
            self._apps()
        self._guests = guests
        for name in self._book.ended(now):
            try:
                await self._close(name, now)
            except AskFailed as e:
                log.debug("the leaf: %s", e)
                return

    async def _close(self, name: Name, now: int) -> None:
        id = str(self._book.identity(name))
        if closed := await self._leaf.close(id):
            reason = "a certificate of it has ended: connections closed"
            self._audit.record("end", who=id, subject="/".join(name), reason=f"{reason}: {closed}")
        await asyncio.to_thread(self._book.carried_out, name, now)
