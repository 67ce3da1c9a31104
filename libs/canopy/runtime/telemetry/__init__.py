"""The door to OpenTelemetry. `bus` (in and out), HTTP and adapters begin spans here; handlers and cores never do.

`tracing` holds Telemetry; the rest is its parts. Nothing here exports: a finished span goes to a buffer and a hook.
"""

from opentelemetry.context import Context

from canopy.runtime.telemetry.finished import FinishedSpan
from canopy.runtime.telemetry.handles import Kind, Span, Spanning
from canopy.runtime.telemetry.several import joined, newest
from canopy.runtime.telemetry.tracing import Telemetry, current_trace_id, current_traceparent

__all__ = [
    "Context",
    "FinishedSpan",
    "Kind",
    "Span",
    "Spanning",
    "Telemetry",
    "current_trace_id",
    "current_traceparent",
    "joined",
    "newest",
]
