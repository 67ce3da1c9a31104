"""The last spans of the whole fleet by trace, bounded, in memory: what `canopy trace` shows. Pure; `spans` fills it."""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec.structs import replace

from canopy.contracts.wire import SpanRecord

DEVICE = "device"
MAX_WORDS = 200
MAX_ATTRIBUTES = 8
MAX_NS = 2**63 - 1
_TRACE, _SPAN = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{16}")


@dataclass(slots=True)
class Trace:
    """The spans of one trace, in the order in which they came."""

    id: str
    spans: dict[str, SpanRecord] = field(default_factory=dict)

    @property
    def start(self) -> int:
        return min(s.start for s in self.spans.values())

    @property
    def end(self) -> int:
        return max(s.end for s in self.spans.values())

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that its spans name, namespace/name."""
        return tuple(dict.fromkeys(d for s in self.spans.values() if (d := s.attributes.get(DEVICE))))

    @property
    def errors(self) -> int:
        return sum(bool(s.error) for s in self.spans.values())


class Traces:
    """At most `most_spans` in all, and `most_of_trace` of one; the trace that was added to longest ago gives way."""

    def __init__(self, most_spans: int, most_of_trace: int) -> None:
        self._most_spans, self._most_of_trace = most_spans, most_of_trace
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self.spans = self.dropped = 0

    def __len__(self) -> int:
        return len(self._traces)

    def add(self, found: Iterable[SpanRecord]) -> None:
        """Keep them; what comes again is kept once."""
        for span in found:
            self._add(span)
        while self.spans > self._most_spans:
            _, gone = self._traces.popitem(last=False)
            self.spans -= len(gone.spans)

    def get(self, trace_id: str) -> Trace | None:
        return self._traces.get(trace_id)

    def newest(self) -> list[Trace]:
        """All, the one that began last first."""
        return sorted(self._traces.values(), key=lambda t: t.start, reverse=True)

    def _add(self, span: SpanRecord) -> None:
        trace = self._traces.setdefault(span.trace, Trace(span.trace))
        if span.id not in trace.spans:
            if len(trace.spans) >= self._most_of_trace:
                self.dropped += 1
                return
            self.spans += 1
        trace.spans[span.id] = span
        self._traces.move_to_end(span.trace)


def ordered(trace: Trace) -> list[SpanRecord]:
    """By when they began."""
    return sorted(trace.spans.values(), key=lambda s: (s.start, s.id))


def acceptable(span: SpanRecord, node: str) -> SpanRecord | None:
    """A span as it is kept: `node` is the subject's, words are cut; None for what is no span."""
    ids = (
        _TRACE.fullmatch(span.trace) and _SPAN.fullmatch(span.id) and (not span.parent or _SPAN.fullmatch(span.parent))
    )
    if not ids or not 0 <= span.start <= span.end <= MAX_NS:
        return None
    attributes = {_word(k): _word(v) for k, v in list(span.attributes.items())[:MAX_ATTRIBUTES]}
    return replace(
        span,
        node=node,
        unit=_word(span.unit),
        name=_word(span.name),
        kind=_word(span.kind),
        error=_word(span.error),
        attributes=attributes,
    )


def _word(text: str) -> str:
    return text[:MAX_WORDS]
