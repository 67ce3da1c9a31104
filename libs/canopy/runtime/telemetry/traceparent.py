"""W3C `traceparent` text, by hand: the propagators of the SDK cost more than a span that is not recorded."""

import re

from opentelemetry.trace import SpanContext, TraceFlags

HEADER = "traceparent"

_TEXT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")


def parse(text: str) -> SpanContext | None:
    """None for anything malformed: it may come from a device, and a trace is not worth a refusal."""
    match = _TEXT.fullmatch(text)
    if match is None or (match[4] and text.startswith("00")):
        return None
    context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
    return context if context.is_valid else None


def write(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 0x01:02x}"
