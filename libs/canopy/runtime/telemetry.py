"""The door to OpenTelemetry. `bus` (in and out), HTTP and adapters begin spans here; handlers and cores never do.

Recorded is what carries a sampled `traceparent`, what is said to be recorded `always`, what failed, and else at most N
new traces a second. A recorded span costs about 21 us, so everything else leaves as early as it can.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, MutableMapping
from contextvars import Token
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from canopy.runtime import traceparent
from canopy.runtime.traceparent import HEADER

__all__ = ["Context", "FinishedSpan", "Kind", "Span", "Spanning", "Telemetry", "current_trace_id"]

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float

KINDS = {kind.name.lower(): kind for kind in SpanKind}
TRACES_PER_SECOND = 5.0
KEPT_SPANS = 2_000
ERROR_CHARACTERS = 500

log = logging.getLogger("canopy.telemetry")

_NO_PARENT = Context()
_LEFT_OUT = contexts.create_key("canopy-left-out")
_REFUSED = Context({_LEFT_OUT: True})  # what happens inside a trace that was left out is left out too


@dataclass(frozen=True, slots=True)
class FinishedSpan:
    """A span as the rest of Canopy sees it. Ids are hex; times in ns since 1970; `error` is None where none was."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Any]
    error: str | None


class Span(Protocol):
    """What a `with telemetry.span(...)` gives; does nothing when the span is not recorded."""

    @property
    def recording(self) -> bool: ...

    def set(self, key: str, value: Value) -> None: ...

    def fail(self, why: str) -> None:
        """Mark an error that is not an exception."""


class Spanning(Protocol):
    """The context manager around a piece of work."""

    def __enter__(self) -> Span: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


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
        self.dropped_spans = 0  # fell out of the buffer unread
        self._exporter = exporter
        self._finished: deque[Any] = deque(maxlen=kept_spans)
        self._new_traces = _Rate(traces_per_second, monotonic)
        self._failures = _Rate(traces_per_second, monotonic)
        self._tracer = _tracer(service_name, self._keep) if enabled else None

    def span(
        self,
        name: str,
        context: Context | None = None,
        kind: Kind = "internal",
        attributes: Mapping[str, Value] | None = None,
        *,
        always: bool = False,
    ) -> Spanning:
        """Around a piece of work. `context` is its parent (from `extract` or `remote`); None: the current one.

        An exception marks the span as failed and goes on; a cancellation is not a failure.
        """
        if self._tracer is None:
            return _NOTHING
        around = contexts.get_current() if context is None else context
        parent = get_current_span(around).get_span_context()
        if parent.is_valid:
            wanted = parent.trace_flags.sampled
            return self._recorded(name, around, kind, attributes) if wanted else _Carried(around)
        if always:
            return self._recorded(name, _NO_PARENT, kind, attributes)
        if _LEFT_OUT in around:
            return _NOTHING
        if self._new_traces.allows():
            return self._recorded(name, _NO_PARENT, kind, attributes)
        return _LeftOut(self, name, kind, attributes)

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
        parent = traceparent.parse(text) if self._tracer is not None else None
        return set_span_in_context(NonRecordingSpan(parent), _NO_PARENT) if parent else _NO_PARENT

    def current_traceparent(self) -> str | None:
        """To store beside a row, so that what is done about it later joins the same trace."""
        current = _current() if self._tracer is not None else None
        return traceparent.write(current) if current else None

    def finished_spans(self) -> list[FinishedSpan]:
        """The last ones, oldest first."""
        return [_finished(self.service_name, span) for span in self._finished]

    def take_finished_spans(self, most: int = KEPT_SPANS) -> list[FinishedSpan]:
        """The oldest ones, removed from the buffer."""
        return [_finished(self.service_name, self._finished.popleft()) for _ in range(min(most, len(self._finished)))]

    def _recorded(
        self,
        name: str,
        parent: Context,
        kind: Kind,
        attributes: Mapping[str, Value] | None,
        start_ns: int | None = None,
    ) -> "_Recorded":
        assert self._tracer is not None  # noqa: S101 - for mypy; `span` has looked
        span = self._tracer.start_span(name, parent, KINDS[kind], attributes, start_time=start_ns)
        return _Recorded(span, parent)

    def _record_failure(self, left_out: "_LeftOut", error: BaseException) -> None:
        if self._failures.allows():
            late = self._recorded(left_out.name, _NO_PARENT, left_out.kind, left_out.attributes, left_out.start_ns)
            late.end(error)

    def _keep(self, span: Any) -> None:
        if len(self._finished) == self._finished.maxlen:
            self.dropped_spans += 1
        self._finished.append(span)
        if self._exporter is not None:
            self._exporter(_finished(self.service_name, span))


def current_trace_id() -> str | None:
    """For log lines: the trace that this task is in, recorded or not."""
    current = _current()
    return f"{current.trace_id:032x}" if current else None


def _current() -> SpanContext | None:
    current = get_current_span().get_span_context()
    return current if current.is_valid else None


class _Recorded:
    recording = True
    __slots__ = ("_context", "_span", "_token")

    def __init__(self, span: OtelSpan, parent: Context) -> None:
        self._span = span
        self._context = set_span_in_context(span, parent)
        self._token: Token[Context] | None = None

    def set(self, key: str, value: Value) -> None:
        self._span.set_attribute(key, value)

    def fail(self, why: str) -> None:
        self._span.set_status(Status(StatusCode.ERROR, why[:ERROR_CHARACTERS]))

    def end(self, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self._span.set_attribute("error.type", type(error).__qualname__)
            self.fail(str(error) or type(error).__qualname__)
        elif error is not None:
            self._span.set_attribute("cancelled", True)
        self._span.end()

    def __enter__(self) -> Span:
        self._token = contexts.attach(self._context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            contexts.detach(self._token)
        self.end(error)


class _Silent:
    recording = False
    __slots__ = ()

    def set(self, key: str, value: Value) -> None: ...

    def fail(self, why: str) -> None: ...


_SILENT = _Silent()


class _Nothing:
    """No span, and no change to the context."""

    __slots__ = ()

    def __enter__(self) -> Span:
        return _SILENT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


_NOTHING = _Nothing()


class _Carried:
    """Someone before us decided not to record: hand their traceparent on."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: Context) -> None:
        self._context = context

    def __enter__(self) -> Span:
        self._token = contexts.attach(self._context)
        return _SILENT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        contexts.detach(self._token)


class _LeftOut:
    """A trace beyond the rate. It is recorded after all, as one span, when the work fails."""

    __slots__ = ("_telemetry", "_token", "attributes", "kind", "name", "start_ns")

    def __init__(self, telemetry: Telemetry, name: str, kind: Kind, attributes: Mapping[str, Value] | None) -> None:
        self._telemetry = telemetry
        self.name = name
        self.kind = kind
        self.attributes = attributes

    def __enter__(self) -> Span:
        self.start_ns = time.time_ns()
        self._token = contexts.attach(_REFUSED)
        return _SILENT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        contexts.detach(self._token)
        if isinstance(error, Exception):
            self._telemetry._record_failure(self, error)


class _Rate:
    """At most so many a second, with a second's worth saved up."""

    __slots__ = ("_at", "_left", "_monotonic", "_most", "_per_second")

    def __init__(self, per_second: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second) if per_second > 0 else 0.0
        self._left = self._most
        self._monotonic = monotonic
        self._at = monotonic()

    def allows(self) -> bool:
        now = self._monotonic()
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


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


def _finished(service: str, span: Any) -> FinishedSpan:
    failed = span.status.status_code is StatusCode.ERROR
    return FinishedSpan(
        service=service,
        name=span.name,
        kind=span.kind.name.lower(),
        trace_id=f"{span.context.trace_id:032x}",
        span_id=f"{span.context.span_id:016x}",
        parent_id=f"{span.parent.span_id:016x}" if span.parent else None,
        start_ns=span.start_time,
        end_ns=span.end_time,
        attributes=dict(span.attributes or {}),
        error=(span.status.description or "error") if failed else None,
    )
