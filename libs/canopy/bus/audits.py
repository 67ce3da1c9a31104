"""A unit's audit on its way to the stream AUDIT, and how that stream is read. `canopy.runtime.audit` keeps it before.

At a node edgeidentity runs an AuditSender, EdgeHub carries, CloudHub stores; spire_integration stores its own. Whoever
stores makes sure of the stream with BOUNDS. A record may be stored twice, at one address: its id says so.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from canopy.bus.jsapi import call
from canopy.bus.sending import ASK_SECONDS, Sender
from canopy.bus.streams import LastValues, Reader, Value
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch, AuditRecord
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import Verdict
from canopy.runtime.audit import AuditLog
from canopy.runtime.metrics import Metrics

log = logging.getLogger("canopy.bus")
CLOUD = "cloud"
"""What stands for the node in the address of a record of the cloud's: no unit of an edge has such a unit's name."""
MOST_AGE_SECONDS = 90 * 86_400
BOUNDS: dict[str, Any] = {
    "discard": "old",
    "max_msgs": 200_000,
    "max_bytes": 256 << 20,
    "max_msg_size": 16 << 10,
    "max_age": MOST_AGE_SECONDS * 10**9,
}
"""Of the stream AUDIT, for whoever ensures it."""
FIRST_SPAN = 1_000
WIDER = 16
READ_SECONDS = 20.0
T = TypeVar("T")


def address_of(record: AuditRecord) -> str:
    """Where the stream holds it."""
    return c.AUDIT.at(node=record.node or CLOUD, unit=record.unit, id=record.id)


def measure(audit: AuditLog, metrics: Metrics) -> None:
    """Register what is counted of a unit's audit."""
    prefix = f"canopy_{audit.unit}_audit"
    metrics.counted(f"{prefix}_total", lambda: float(audit.total))
    metrics.gauge(f"{prefix}_waiting", read=lambda: float(audit.unsent))
    metrics.counted(f"{prefix}_dropped_total", lambda: float(audit.dropped))


class AuditSender(Sender[AuditRecord]):
    """Of one unit of a node."""

    most = 40
    """Each has at most some 5 KB."""

    async def ask(self, items: list[AuditRecord], dropped: int) -> Verdict:
        return await self._bus.ask(c.HUB_AUDIT, AuditBatch(records=items, dropped=dropped), timeout=ASK_SECONDS)

    def refused(self, items: list[AuditRecord], why: Exception) -> None:
        log.warning("%d records of the audit are refused and lost: %s", len(items), why)
        self._kept.dropped += len(items)


class AuditReader:
    """Reads the stream from its end. One reading at a time: each may go through all of it."""

    def __init__(self, stream: LastValues) -> None:
        self._stream, self._one = stream, asyncio.Lock()

    async def newest(self, wild: str, keep: Callable[[bytes], T | None], most: int, since_ms: int = 0) -> list[T]:
        """What `keep` makes of the messages, of those that came last at most so many, in the order in which they came.

        Raises AskFailed, StreamError, TimeoutError.
        """
        async with self._one:
            if since_ms:
                return await self._read(wild, keep, most, _since(since_ms))
            state = (await call(self._stream.bus, f"STREAM.INFO.{self._stream.name}"))["state"]
            first, last, span = int(state["first_seq"]), int(state["last_seq"]), max(FIRST_SPAN, most)
            while True:
                low = max(1, first, last - span + 1)
                found = await self._read(wild, keep, most, _from(low))
                if len(found) >= most or low <= max(1, first):
                    return found
                span *= WIDER

    async def _read(self, wild: str, keep: Callable[[bytes], T | None], most: int, start: dict[str, Any]) -> list[T]:
        found, done = deque[T](maxlen=most), asyncio.Event()

        def take(value: Value) -> None:
            if (kept := keep(value.data)) is not None:
                found.append(kept)

        async with Reader(self._stream.bus, self._stream.name, wild, take, done.set, start):
            async with asyncio.timeout(READ_SECONDS):
                await done.wait()
        return list(found)


def _from(seq: int) -> dict[str, Any]:
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": seq}


def _since(ms: int) -> dict[str, Any]:
    return {"deliver_policy": "by_start_time", "opt_start_time": rfc3339(ms)}
