"""What `with telemetry.span(...)` holds: a recorded span, a parent handed on, or nothing. Made by `tracing`."""

import time
from collections.abc import Callable, Mapping
from contextvars import Token
from types import TracebackType
from typing import Literal, Protocol

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.trace import Span as OtelSpan
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from canopy.runtime.telemetry.traceparent import write

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | bool | int | float

ERROR_CHARACTERS = 500
LEFT_OUT = contexts.create_key("canopy-left-out")
REFUSED = Context({LEFT_OUT: True})  # what happens inside a trace that was left out is left out too


class Span(Protocol):
    """What a `with telemetry.span(...)` gives; does nothing when the span is not recorded."""

    @property
    def recording(self) -> bool: ...

    @property
    def traceparent(self) -> str:
        """Of this span, to be handed on beside what it leads to; empty if it is not recorded."""

    def set(self, key: str, value: Value) -> None: ...

    def fail(self, why: str) -> None:
        """Mark an error that is not an exception."""


class Spanning(Protocol):
    """The context manager around a piece of work."""

    def __enter__(self) -> Span: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Recorded:
    recording = True
    __slots__ = ("_context", "_span", "_token")

    def __init__(self, span: OtelSpan, parent: Context) -> None:
        self._span = span
        self._context = set_span_in_context(span, parent)
        self._token: Token[Context] | None = None

    @property
    def traceparent(self) -> str:
        return write(self._span.get_span_context())

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
    traceparent = ""
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


NOTHING = _Nothing()


class Carried:
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


class LeftOut:
    """A trace beyond the rate. It is recorded after all, as one span, when the work fails."""

    __slots__ = ("_failed", "_token", "attributes", "kind", "name", "start_ns")

    def __init__(
        self,
        failed: Callable[["LeftOut", BaseException], None],
        name: str,
        kind: Kind,
        attributes: Mapping[str, Value] | None,
    ) -> None:
        self._failed = failed
        self.name = name
        self.kind = kind
        self.attributes = attributes

    def __enter__(self) -> Span:
        self.start_ns = time.time_ns()
        self._token = contexts.attach(REFUSED)
        return _SILENT

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        contexts.detach(self._token)
        if isinstance(error, Exception):
            self._failed(self, error)
