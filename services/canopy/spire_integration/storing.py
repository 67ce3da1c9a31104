"""Writes this unit's audit into the stream AUDIT, many at once, beside the work: no decision waits for it.

What cannot be written stays in the AuditLog, bounded; what its bound drops is counted there.
"""

import asyncio
import logging
import random

from canopy.bus.audits import BOUNDS, address_of
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import LastValues
from canopy.contracts.identity_wire import AuditRecord
from canopy.contracts.wire import encode
from canopy.runtime.audit import AuditLog
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.spire_integration.counts import Counts

log = logging.getLogger("canopy.spire_integration")
LOOK_SECONDS = 0.2
AT_ONCE = 64
FIRST_SECONDS, MOST_SECONDS = 0.5, 10.0


class Storing:
    """`run` until cancelled; `store` once more at the end."""

    def __init__(self, stream: LastValues, audit: AuditLog, clock: Clock, counts: Counts, replicas: int = 1) -> None:
        self._stream, self._audit, self._clock, self._counts = stream, audit, clock, counts
        self._replicas, self._ensured = replicas, False
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, random.Random())  # noqa: S311

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS if await self.store() else self._backoff.next_seconds())

    async def store(self) -> bool:
        """What waits; False if the stream did not take all of it."""
        if not self._ensured:
            await self._stream.ensure(replicas=self._replicas, **BOUNDS)
            self._ensured = True
        while records := self._audit.waiting(AT_ONCE):
            done = await asyncio.gather(*map(self._put, records))
            self._audit.sent([record for record, stored in zip(records, done, strict=True) if stored])
            if not all(done):
                self._ensured = False  # the hub may have lost its volume
                return False
        self._backoff.reset()
        return True

    async def _put(self, record: AuditRecord) -> bool:
        try:
            await self._stream.put(address_of(record), encode(record), None)
        except (AskFailed, StreamError) as e:
            self._counts.failures.add(part="audit")
            log.debug("audit: %s", e)
            return False
        return True
