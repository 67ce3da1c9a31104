"""Beginning and recording spans. `bus` (in and out), HTTP and adapters begin spans here; handlers and cores never do.

Recorded is what carries a sampled `traceparent`, what is said to be recorded `always`, what failed, and else at most N
new traces a second. A recorded span costs about 21 us, so everything else leaves as early as it can.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, get_current_span, set_span_in_context

from canopy.runtime.telemetry.finished import FinishedSpan, finished
from canopy.runtime.telemetry.handles import (
    LEFT_OUT,
    NOTHING,
    REFUSED,
    Carried,
    Kind,
    LeftOut,
    Recorded,
    Spanning,
    Value,
)
from canopy.runtime.telemetry.rate import Rate
from canopy.runtime.telemetry.several import Several, apart
from canopy.runtime.telemetry.traceparent import HEADER, parse, write

KINDS = {kind.name.lower(): kind for kind in SpanKind}
TRACES_PER_SECOND = 5.0
KEPT_SPANS = 2_000

log = logging.getLogger("canopy.telemetry")

_NO_PARENT = Context()


class Telemetry:
    """Spans of one service, in a provider of its own; nothing is global but the current context of each task.

    `exporter` is called with each finished span, on the task that ended it: it must be quick and not raise.
    `enabled=False` costs one comparison a span and does not load the SDK. The last `kept_spans` stay in memory.
    """

    def __init__(
        self,
        service_name: str,
        exporter: Callable[[FinishedSpan], None] | None = None,
        *,
        traces_per_second: float = TRACES_PER_SECOND,
        kept_spans: int = KEPT_SPANS,
        enabled: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service_name = service_name
        self.dropped_spans = 0  # fell out of the full buffer
        self._exporter = exporter
        self._finished: deque[Any] = deque(maxlen=kept_spans)
        self._new_traces = Rate(traces_per_second, monotonic)
        self._failures = Rate(traces_per_second, monotonic)
        self._tracer = _tracer(service_name, self._keep) if enabled else None

    def span(
        self,
        name: str,
        context: Context | None = None,
        kind: Kind = "internal",
        attributes: Mapping[str, Value] | None = None,
        *,
        always: bool = False,
        begins: bool = True,
    ) -> Spanning:
        """Around a piece of work. `context` is its parent (from `extract` or `remote`); None: the current one.

        `begins=False`: joins a trace, but begins none, and nothing inside of it does: for what timers do.
        An exception marks the span as failed and goes on; a cancellation is not a failure.
        """
        if self._tracer is None:
            return NOTHING
        around = contexts.get_current() if context is None else context
        parent = get_current_span(around).get_span_context()
        if parent.is_valid:
            wanted = parent.trace_flags.sampled
            return self._recorded(name, around, kind, attributes) if wanted else Carried(around)
        if always:
            return self._recorded(name, _NO_PARENT, kind, attributes)
        if LEFT_OUT in around:
            return NOTHING
        if not begins:
            return Carried(REFUSED)
        if self._new_traces.allows():
            return self._recorded(name, _NO_PARENT, kind, attributes)
        return LeftOut(self._record_failure, name, kind, attributes)

    def span_in_each(
        self, name: str, traces: str, kind: Kind = "internal", attributes: Mapping[str, Value] | None = None
    ) -> Spanning:
        """Around a piece of work that belongs to several traces (`several.joined`); without one nothing is begun."""
        contexts_of = [self.remote(one) for one in apart(traces)] or [_NO_PARENT]
        return Several([self.span(name, context, kind, attributes, begins=False) for context in contexts_of])

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Add the current `traceparent`, if there is one."""
        current = self.current_traceparent()
        if current is not None:
            headers[HEADER] = current

    def extract(self, headers: Mapping[str, str] | None) -> Context:
        """The parent that a message's headers name; without one a context that begins anew."""
        found = headers.get(HEADER) or headers.get("Traceparent") if headers else None
        return self.remote(found) if found else _NO_PARENT

    def remote(self, text: str) -> Context:
        """The parent that a stored `traceparent` names; what is malformed begins anew."""
        parent = parse(text) if self._tracer is not None else None
        return set_span_in_context(NonRecordingSpan(parent), _NO_PARENT) if parent else _NO_PARENT

    def current_traceparent(self) -> str | None:
        """To store beside a row, so that what is done about it later joins the same trace."""
        current = _current() if self._tracer is not None else None
        return write(current) if current else None

    def finished_spans(self) -> list[FinishedSpan]:
        """The last ones, oldest first."""
        return [finished(self.service_name, span) for span in self._finished]

    def take_finished_spans(self, most: int = KEPT_SPANS) -> list[FinishedSpan]:
        """The oldest ones, removed from the buffer."""
        return [finished(self.service_name, self._finished.popleft()) for _ in range(min(most, len(self._finished)))]

    def _recorded(
        self,
        name: str,
        parent: Context,
        kind: Kind,
        attributes: Mapping[str, Value] | None,
        start_ns: int | None = None,
    ) -> Recorded:
        tracer: Any = self._tracer  # there is one: `span` has looked
        span = tracer.start_span(name, parent, KINDS[kind], attributes, start_time=start_ns)
        return Recorded(span, parent)

    def _record_failure(self, left_out: LeftOut, error: BaseException) -> None:
        if self._failures.allows():
            late = self._recorded(left_out.name, _NO_PARENT, left_out.kind, left_out.attributes, left_out.start_ns)
            late.end(error)

    def _keep(self, span: Any) -> None:
        if len(self._finished) == self._finished.maxlen:
            self.dropped_spans += 1
        self._finished.append(span)
        if self._exporter is not None:
            self._exporter(finished(self.service_name, span))


def current_trace_id() -> str | None:
    """For log lines: the trace that this task is in, recorded or not."""
    current = _current()
    return f"{current.trace_id:032x}" if current else None


def current_traceparent() -> str:
    """The trace that this task is in, to be handed on beside what it leads to; empty where there is none."""
    current = _current()
    return write(current) if current else ""


def _current() -> SpanContext | None:
    current = get_current_span().get_span_context()
    return current if current.is_valid else None


def _tracer(service_name: str, keep: Callable[[Any], None]) -> Any:
    from opentelemetry.sdk.resources import Resource  # here, because a unit without telemetry need not hold it
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    class Keeping(SpanProcessor):
        def on_end(self, span: Any) -> None:
            try:
                keep(span)
            except Exception:
                log.exception("a finished span was lost")

    provider = TracerProvider(ALWAYS_ON, Resource({"service.name": service_name}), shutdown_on_exit=False)
    provider.add_span_processor(Keeping())
    return provider.get_tracer("canopy")
