"""The stream TWINS as CloudHub writes and reads it: one record a device, by compare-and-set (RULES 17, 18, 23).

`handlers` stores reports through it and `live` reads from it; both keep the view in step.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from msgspec.structs import replace

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import Value, WrongSequence
from canopy.cloudhub.core import Bounds, Said, Unacceptable, accepted, repeated, said, stored
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.view import View
from canopy.contracts.catalogue import TWINS
from canopy.contracts.wire import Name, Report, ReportResult, StateEntry, StatePageAsk, TwinRecord, encode
from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.logs import OncePer
from canopy.runtime.telemetry import Telemetry
from canopy.sync.up import Difference, Stamp, Stored, Verdict, compare, judge

log = logging.getLogger("canopy.cloudhub")
TRIES = 5
BUG_TRIES = 3
"""So often is a report whose handling shows a bug of ours asked for again, before it is refused and set aside."""

__all__ = ["Batch", "Records", "Stream"]


class Stream(Protocol):
    """What is asked of a stream of last values (`canopy.bus.streams.LastValues`)."""

    async def get(self, address: str) -> Value | None: ...

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int: ...

    async def purge(self, address: str, upto: int) -> None: ...

    async def under(self, wild: str) -> list[Value]: ...


@dataclass(frozen=True, slots=True)
class Written:
    """A record as TWINS now holds it."""

    seq: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of a batch: a result for each report, in its order, and what was written.

    `session` is the highest that TWINS was seen to bear in place of the batch's own.
    """

    results: list[ReportResult]
    written: dict[Name, Written]
    session: int = 0


@dataclass(slots=True)
class _Seen:
    """What a batch meets on its way."""

    written: dict[Name, Written] = field(default_factory=dict)
    session: int = 0


class Records:
    """Writes at most `writes_at_once` messages at a time; more wait."""

    def __init__(
        self,
        stream: Stream,
        view: View,
        clock: Clock,
        counts: Counts,
        once_per: OncePer,
        bounds: Bounds,
        writes_at_once: int = 2000,
        telemetry: Telemetry | None = None,
        letters: DeadLetters | None = None,
    ) -> None:
        self._letters = letters if letters is not None else DeadLetters("cloudhub")
        self._telemetry = telemetry or Telemetry("cloudhub", enabled=False)
        self._stream, self.view, self._clock, self._counts = stream, view, clock, counts
        self._bounds, self._once_per = bounds, once_per
        self._slots = asyncio.Semaphore(writes_at_once)
        self._in_hand = 0

    async def store(self, node: str, stamp: Stamp, reports: Sequence[Report]) -> Batch:
        """Store a batch, all of it at once."""
        items = [said(r) for r in reports]
        twice, seen = repeated(items), _Seen()
        self._holds(len(items))
        try:
            results = await asyncio.gather(
                *(self._isolated(node, stamp, one, i in twice, seen) for i, one in enumerate(items))
            )
        finally:
            self._holds(-len(items))
        for result in results:
            self._counts.reports.add(outcome=result.outcome)
        return Batch(list(results), seen.written, seen.session)

    def _holds(self, more: int) -> None:
        self._in_hand += more
        self._counts.in_hand.set(float(self._in_hand))

    async def _isolated(self, node: str, stamp: Stamp, one: Said, twice: bool, seen: "_Seen") -> ReportResult:
        """A bug that one report shows is that report's failure, not the batch's."""
        try:
            return await self._report(node, stamp, one, twice, seen)
        except Exception as bug:
            body, trace, source = encode(one.report), one.report.trace, f"state of {node} {one.key[0]}/{one.key[1]}"
            tried = self._letters.failed(source, bug, body, trace=trace, after=BUG_TRIES)
            again = tried < BUG_TRIES
            return one.result("retry" if again else "refused", "internal error" + ("" if again else "; set aside"))

    async def _report(self, node: str, stamp: Stamp, one: Said, twice: bool, seen: "_Seen") -> ReportResult:
        if twice:
            return one.result("refused", "the batch holds this device twice; should be once")
        try:
            record = accepted(one, node, stamp, self._clock.now_ms(), self._bounds)
        except Unacceptable as e:
            return one.result("refused", str(e))
        try:
            return await self._traced(one, record, seen)
        except (AskFailed, StreamError) as e:
            if self._once_per("write"):
                log.warning("writing to TWINS: %s", e)
            return one.result("retry", "the hub did not store it; again later")

    async def _traced(self, one: Said, record: TwinRecord, seen: "_Seen") -> ReportResult:
        """In the traces of the report, where it has any; the record then leads on from here."""
        if not record.trace:
            return await self._settle(one, record, seen)
        about = {"device": "/".join(one.key)}
        with self._telemetry.span_in_each("store the state", record.trace, "producer", about) as span:
            return await self._settle(one, replace(record, trace=span.traceparent or record.trace), seen)

    async def _settle(self, one: Said, record: TwinRecord, seen: "_Seen") -> ReportResult:
        """Judge and write; from the beginning whenever someone else wrote in between (RULES 17).

        The view may be behind, and the expected sequence shows it; what needs no write is judged by the leader's word.
        """
        address = TWINS.at(node=record.node, namespace=record.namespace, name=record.name)
        stamp, data = (record.session, record.n), encode(record)
        known, exact = self.view.get(record.node, one.key), False
        for _ in range(TRIES):
            verdict = judge(one.entry, stamp, known)
            if known is not None and verdict is not Verdict.STORE and exact:
                seen.session = max(seen.session, known.stamp[0])
                return one.result(verdict.value)
            if verdict is Verdict.STORE:
                try:
                    seq = await self._write(address, data, known.seq if known else 0, record.trace)
                except WrongSequence:
                    pass
                else:
                    self.view.put(record.node, Stored(one.entry, stamp, seq))
                    seen.written[one.key] = Written(seq, data)
                    return one.result("ok")
            known, exact = await self._read(address), True
        return one.result("retry", "others write this device just now; again later")

    async def _write(self, address: str, data: bytes, expect: int, trace: str) -> int:
        async with self._slots:
            began = self._clock.monotonic()
            seq = await self._stream.put(address, data, expect, {"traceparent": trace} if trace else None)
        self._counts.writes.add()
        self._counts.write_seconds.observe(max(0.0, self._clock.monotonic() - began))
        return seq

    async def _read(self, address: str) -> Stored | None:
        value = await self._stream.get(address)
        return None if value is None else readable(value)

    async def one(self, node: str, key: Name) -> bytes | None:
        """The record of a device as the stream holds it now."""
        value = await self._stream.get(TWINS.at(node=node, namespace=key[0], name=key[1]))
        return None if value is None else value.data

    async def of(self, node: str) -> dict[Name, tuple[Stored, bytes]]:
        """All records of a node as the stream holds them now; the view is refreshed with them."""
        before = self.view.sequences(node)
        values = await self._stream.under(TWINS.wild(node=node))
        found = {}
        for value in values:
            record = readable(value)
            if record.entry.uid:
                found[record.entry.key] = (record, value.data)
        self.view.refresh(node, before, [record for record, _ in found.values()])
        return found

    async def compare(self, node: str, ask: StatePageAsk) -> Difference:
        """A page upward: what the node should send again; what it does not list is purged (RULES 23)."""
        difference = compare(ask, {key: record for key, (record, _) in (await self.of(node)).items()})
        for key, upto in difference.purge:
            await self._stream.purge(TWINS.at(node=node, namespace=key[0], name=key[1]), upto)
            self.view.drop(node, key, upto)
            self._counts.purged.add()
        return difference


def readable(value: Value) -> Stored:
    """What a message says to the rules; one that is not ours is below everything, and will be written over."""
    try:
        return stored(value.data, value.seq)
    except msgspec.DecodeError:
        tokens = TWINS.tokens(value.subject) or {}
        unknown = StateEntry(tokens.get("namespace", ""), tokens.get("name", ""), "", 0, "")
        return Stored(unknown, (-1, -1), value.seq)
