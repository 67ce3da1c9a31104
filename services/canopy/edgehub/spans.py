"""Finished spans of this node on their way up: a bounded log in memory, sent while the link is up. Best effort.

`unit.py` runs it; the units of the node say their spans on `edge.hub.spans`, EdgeHub takes its own.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from canopy.bus import AskFailed, Bus, Place, Reject, spans
from canopy.bus.bus import TooBig
from canopy.contracts import catalogue as c
from canopy.contracts.wire import SpanBatch, SpanRecord
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.health import Metrics
from canopy.runtime.telemetry import Telemetry

log = logging.getLogger("canopy.edgehub")
SEND_SECONDS = 0.5
ASK_SECONDS = 2.0


class SpanLog:
    """The newest `most` spans that the cloud does not have."""

    def __init__(self, most: int) -> None:
        self._spans: deque[SpanRecord] = deque(maxlen=most)
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, found: Iterable[SpanRecord]) -> None:
        """Keep them; the oldest give way, and are counted."""
        for span in found:
            self.dropped += len(self._spans) == self._spans.maxlen
            self._spans.append(span)

    def take(self) -> list[SpanRecord]:
        """As many of the oldest as one message holds, out of the log."""
        first = [self._spans[i] for i in range(min(len(self._spans), spans.MOST_SPANS))]
        group = next(spans.batches(first), [])
        for _ in group:
            self._spans.popleft()
        return group

    def put_back(self, group: list[SpanRecord]) -> None:
        """They were not taken: in front again, as far as there is room."""
        room = (self._spans.maxlen or 0) - len(self._spans)
        kept = group[len(group) - room :] if room < len(group) else group
        self.dropped += len(group) - len(kept)
        self._spans.extendleft(reversed(kept))


class SpanCarrier:
    """Hears, keeps and sends. `up` says whether the cloud answers."""

    def __init__(
        self,
        bus: Bus,
        telemetry: Telemetry,
        up: Callable[[], bool],
        clock: Clock,
        backoff: Backoff,
        metrics: Metrics,
        most: int,
    ) -> None:
        self._bus, self._telemetry, self._up, self._clock, self._backoff = bus, telemetry, up, clock, backoff
        self.log = SpanLog(most)
        self._elsewhere = 0  # dropped before they came here
        self._said_dropped = 0
        metrics.gauge("canopy_edgehub_spans_waiting", read=lambda: float(len(self.log)))
        metrics.counted("canopy_edgehub_spans_dropped_total", lambda: float(self.dropped))

    @property
    def dropped(self) -> int:
        """By every unit of this node, as far as it is known here."""
        return self.log.dropped + self._elsewhere + self._telemetry.dropped_spans

    async def heard(self, batch: SpanBatch, place: Place[Any]) -> None:
        """Spans of a unit of this node."""
        self._elsewhere += max(0, batch.dropped)
        self.log.add(batch.spans)

    async def run(self) -> None:
        """Send while the link is up, until cancelled."""
        while True:
            sent = await self._step()
            await self._clock.sleep(SEND_SECONDS if sent else self._backoff.next_seconds())

    async def _step(self) -> bool:
        """Everything that waits; False if the cloud did not take it."""
        self.log.add(spans.taken(self._telemetry))
        while self._up() and (group := self.log.take()):
            if not await self._sent(group):
                return False
        self._backoff.reset()
        return True

    async def _sent(self, group: list[SpanRecord]) -> bool:
        dropped = self.dropped
        batch = SpanBatch(spans=group, dropped=dropped - self._said_dropped)
        try:
            await self._bus.ask(c.SPANS, batch, timeout=ASK_SECONDS, node=self._bus.node)
        except (Reject, TooBig, msgspec.DecodeError) as e:
            log.debug("spans refused: %s", e)  # they would be refused again: they are gone
            self.log.dropped += len(group)
            return False
        except AskFailed as e:
            log.debug("spans: %s", e)
            self.log.put_back(group)
            return False
        self._said_dropped = dropped
        return True
