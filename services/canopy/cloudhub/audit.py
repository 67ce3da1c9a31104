"""The stream AUDIT as CloudHub keeps it: what nodes say that they decided, checked, bounded, and found for people.

A node's word is stored as that node's, whatever it says; a node that says too much is told to come later, and keeps its
records meanwhile. Nothing here changes or purges a record: the stream lets go of its oldest by its own bounds.
"""

import logging
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec.structs import replace

from canopy.bus import Bus, Place
from canopy.bus.audits import address_of
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch, AuditRecord
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.contracts.wire import Verdict, encode
from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Counter, Metrics

log = logging.getLogger("canopy.cloudhub")
UNITS = (*EDGE_UNITS, EDGEIDENTITY)
MOST_BATCH = 100
MAX_WORDS = 512
MAX_NUMBER = 2**53
BURST_RECORDS, RECORDS_PER_SECOND = 1_200.0, 0.2
"""Of one node: one that was away says all that it kept at once, a quiet one a few an hour."""
KNOWN_NODES = 20_000
RETRY_SECONDS = 5.0
_ID, _WORD, _TRACEPARENT = re.compile(r"[0-9a-f]{16}"), re.compile(r"[a-z][a-z-]{0,31}"), re.compile(r"[0-9a-f,-]*")
_TEXTS = ("who", "subject", "reason", "where", "serial")
_NUMBERS = ("at", "last", "not_after", "count")
_RECORD = msgspec.json.Decoder(AuditRecord)


class Stream(Protocol):
    """What is asked of `canopy.bus.streams.LastValues`."""

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int: ...


class Reading(Protocol):
    """What is asked of `canopy.bus.audits.AuditReader`."""

    async def newest(self, wild: str, keep: Any, most: int, since_ms: int = 0) -> list[AuditRecord]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """Records that are meant; empty means all. `who` is looked for in who and subject; `since` in ms.

    `late`: of those that came since, also what was decided before: an edge that was away says it when it is back.
    """

    node: str = ""
    unit: str = ""
    who: str = ""
    what: str = ""
    outcome: str = ""
    since: int = 0
    late: bool = False

    def wild(self) -> str:
        """Raises BadToken."""
        given = {"node": self.node, "unit": self.unit}
        return c.AUDIT.wild(**{k: v for k, v in given.items() if v})

    def keep(self, data: bytes) -> AuditRecord | None:
        """The record, if it is meant."""
        try:
            record = _RECORD.decode(data)
        except msgspec.MsgspecError:
            return None
        meant = self.what in ("", record.what) and self.outcome in ("", record.outcome)
        found = self.who in record.who or self.who in record.subject
        return record if meant and found and (self.late or max(record.at, record.last) >= self.since) else None


class Audit:
    """`open` serves."""

    def __init__(self, bus: Bus, stream: Stream, reader: Reading, clock: Clock, metrics: Metrics) -> None:
        self._bus, self._stream, self._reader = bus, stream, reader
        self._room = Room(clock)
        self._stored: Counter = metrics.counter("canopy_cloudhub_audit_total")
        self._dropped: Counter = metrics.counter("canopy_cloudhub_audit_dropped_total")

    async def open(self) -> None:
        await self._bus.serve(c.AUDIT_UP, self.of_node)

    async def of_node(self, batch: AuditBatch, place: Place[AuditBatch]) -> Verdict:
        """A node's: it may say what it likes, but not which node it is."""
        node = place["node"]
        if not self._room.take(node, len(batch.records)):
            return Verdict(verdict="busy", reason="so many records at once", retry_after_seconds=RETRY_SECONDS)
        good = [a for one in batch.records[:MOST_BATCH] if (a := acceptable(one, node)) is not None]
        try:
            for record in good:
                await self._stream.put(address_of(record), encode(record), None)
                self._stored.add(what=record.what)
        except (AskFailed, StreamError, TimeoutError) as e:
            log.debug("audit: %s", e)
            return Verdict(verdict="busy", reason="the hub did not store them", retry_after_seconds=RETRY_SECONDS)
        self._dropped.add(len(batch.records) - len(good), why="not acceptable")
        self._dropped.add(min(max(0, batch.dropped), 1_000_000), why="by the node")
        return Verdict()

    async def find(self, wanted: Wanted, most: int) -> list[AuditRecord]:
        """The newest first. Raises BadToken, AskFailed, StreamError, TimeoutError."""
        found = await self._reader.newest(wanted.wild(), wanted.keep, most, wanted.since)
        return sorted(found, key=lambda one: (max(one.at, one.last), one.id), reverse=True)


class Room:
    """How much each node may say now: a bucket a node, for the nodes that were heard last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, node: str, records: int) -> bool:
        now = self._clock.monotonic()
        left, at = self._left.pop(node, (BURST_RECORDS, now))
        left = min(BURST_RECORDS, left + (now - at) * RECORDS_PER_SECOND)
        fits = records <= left
        self._left[node] = (left - records if fits else left, now)
        if len(self._left) > KNOWN_NODES:
            self._left.popitem(last=False)
        return fits


def acceptable(record: AuditRecord, node: str) -> AuditRecord | None:
    """A record as it is kept: `node` is the subject's, words are cut; None: it is none."""
    if record.unit not in UNITS or not _ID.fullmatch(record.id):
        return None
    if not all(0 <= getattr(record, name) < MAX_NUMBER for name in _NUMBERS):
        return None
    if not _WORD.fullmatch(record.what) or not _WORD.fullmatch(record.outcome):
        return None
    texts = {name: _printable(getattr(record, name)) for name in _TEXTS}
    return replace(record, node=node, trace=record.trace if _TRACEPARENT.fullmatch(record.trace[:128]) else "", **texts)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:MAX_WORDS])
