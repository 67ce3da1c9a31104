"""Spans of nodes and of the cloud's units: validated, handed to the OTLP endpoint, kept by every CloudHub for `traces`.

One CloudHub takes a batch (a queue group), exports it, and says it to all. Best effort: nothing waits for a span.
"""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Protocol

from canopy.bus import Bus, Place, spans
from canopy.bus.bus import TooBig
from canopy.cloudhub.traces import Traces, acceptable
from canopy.contracts import catalogue as c
from canopy.contracts.wire import SpanBatch, SpanRecord, Verdict
from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Metrics
from canopy.runtime.telemetry import Telemetry

log = logging.getLogger("canopy.cloudhub")
TAKE_SECONDS = 0.5
MOST_BATCH = 2 * spans.MOST_SPANS


class Exports(Protocol):
    """Where spans go besides: an OTLP endpoint."""

    def put(self, found: Iterable[SpanRecord]) -> None:
        """Never waits, never raises."""

    async def run(self) -> None:
        """Until cancelled."""


class Spans:
    """`open` hears; `run` takes this unit's own spans, until cancelled."""

    def __init__(
        self, bus: Bus, traces: Traces, telemetry: Telemetry, exports: Exports | None, clock: Clock, metrics: Metrics
    ) -> None:
        self._bus, self._traces, self._telemetry, self._clock = bus, traces, telemetry, clock
        self._exports = exports
        self._taken = metrics.counter("canopy_cloudhub_spans_total")
        self._dropped = metrics.counter("canopy_cloudhub_spans_dropped_total")
        metrics.gauge("canopy_cloudhub_traces", read=lambda: float(len(traces)))

    async def open(self) -> None:
        await self._bus.serve(c.SPANS, self.of_node, concurrency=4)
        await self._bus.hear(c.CLOUD_SPANS, self.of_unit)
        await self._bus.hear(c.KEPT_SPANS, self.kept)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if self._exports is not None:
                tasks.create_task(self._exports.run())
            tasks.create_task(self._own())

    async def _own(self) -> None:
        while True:
            await self._clock.sleep(TAKE_SECONDS)
            while own := spans.taken(self._telemetry):
                await self._take(own, "", "cloudhub")

    async def of_node(self, batch: SpanBatch, place: Place[SpanBatch]) -> Verdict:
        """A node's: it may say what it likes, but not which node it is."""
        await self._take(batch.spans, place["node"], "nodes")
        self._dropped.add(min(max(0, batch.dropped), 1_000_000), where="nodes")
        return Verdict()

    async def of_unit(self, batch: SpanBatch, place: Place[Any]) -> None:
        await self._take(batch.spans, "", place["unit"])
        self._dropped.add(max(0, batch.dropped), where="cloud")

    async def kept(self, batch: SpanBatch, place: Place[Any]) -> None:
        before = self._traces.dropped
        self._traces.add(batch.spans)
        self._dropped.add(self._traces.dropped - before, where="long traces")

    async def _take(self, found: list[SpanRecord], node: str, source: str) -> None:
        good = [span for one in found[:MOST_BATCH] if (span := acceptable(one, node)) is not None]
        self._dropped.add(len(found) - len(good), where="not acceptable")
        self._taken.add(len(good), source=source)
        if self._exports is not None:
            self._exports.put(good)
        for group in spans.batches(good):
            try:
                await self._bus.say(c.KEPT_SPANS, SpanBatch(spans=group))
            except TooBig as e:
                log.debug("spans: %s", e)
        await asyncio.sleep(0)
