"""Finished spans of a unit on their way out: from its Telemetry to EdgeHub, or to CloudHub in the cloud.

Best effort, and bounded: what nobody hears is lost, what falls out of a full buffer is counted. Nothing here begins a
span. Whoever runs a unit also runs a SpanSender for it; EdgeHub and CloudHub take their own spans by `taken`.
"""

from collections.abc import Iterable, Iterator

from canopy.bus.bus import Bus
from canopy.contracts import catalogue as c
from canopy.contracts.roles import ROLES
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import MAX_BODY_BYTES, SpanBatch, SpanRecord, encode
from canopy.runtime.clock import Clock
from canopy.runtime.telemetry import FinishedSpan, Telemetry

SEND_SECONDS = 0.5
MOST_SPANS = 200
MOST_BATCH_BYTES = MAX_BODY_BYTES * 3 // 4
MAX_WORDS = 200
MAX_ATTRIBUTES = 8


def record(span: FinishedSpan) -> SpanRecord:
    """The span as it travels: words are cut to MAX_WORDS characters, attributes beyond MAX_ATTRIBUTES left out."""
    attributes = {k[:MAX_WORDS]: str(v)[:MAX_WORDS] for k, v in list(span.attributes.items())[:MAX_ATTRIBUTES]}
    return SpanRecord(
        unit=span.service,
        name=span.name[:MAX_WORDS],
        kind=span.kind,
        trace=span.trace_id,
        id=span.span_id,
        parent=span.parent_id or "",
        start=span.start_ns,
        end=span.end_ns,
        attributes=attributes,
        error=(span.error or "")[:MAX_WORDS],
    )


def taken(telemetry: Telemetry, most: int = MOST_SPANS) -> list[SpanRecord]:
    """The oldest finished spans, out of the buffer."""
    return [record(span) for span in telemetry.take_finished_spans(most)]


def batches(
    spans: Iterable[SpanRecord], most: int = MOST_SPANS, most_bytes: int = MOST_BATCH_BYTES
) -> Iterator[list[SpanRecord]]:
    """Spans in groups that fit into one message each."""
    group, size = list[SpanRecord](), 0
    for span in spans:
        weight = len(encode(span)) + 1
        if group and (len(group) >= most or size + weight > most_bytes):
            yield group
            group, size = [], 0
        group.append(span)
        size += weight
    if group:
        yield group


class SpanSender:
    """Says a unit's spans twice a second. `run` until cancelled."""

    def __init__(self, bus: Bus, telemetry: Telemetry, clock: Clock) -> None:
        self._bus, self._telemetry, self._clock = bus, telemetry, clock
        self._subject, self._address = _place(bus.unit)
        self._dropped = 0

    async def run(self) -> None:
        while True:
            await self._clock.sleep(SEND_SECONDS)
            await self.send()

    async def send(self) -> None:
        """What is finished by now. While the server is away it stays in the buffer."""
        while self._bus.connection.connected and (spans := taken(self._telemetry)):
            for group in batches(spans):
                now = self._telemetry.dropped_spans
                body = encode(SpanBatch(spans=group, dropped=now - self._dropped))
                self._dropped = now
                await self._bus.say_all([(self._subject, self._address, body)])


def sends(unit: str) -> bool:
    """Whether a unit's spans go out by a SpanSender."""
    return bool({c.HUB_SPANS, c.CLOUD_SPANS} & set(ROLES[unit].says))


def _place(unit: str) -> tuple[AnySubject, str]:
    if c.HUB_SPANS in ROLES[unit].says:
        return c.HUB_SPANS, c.HUB_SPANS.at()
    return c.CLOUD_SPANS, c.CLOUD_SPANS.at(unit=unit)
