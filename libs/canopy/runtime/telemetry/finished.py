"""A finished span as a plain value. `tracing` makes them; exporters and `canopy trace` read them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry.trace import StatusCode


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


def finished(service: str, span: Any) -> FinishedSpan:
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
