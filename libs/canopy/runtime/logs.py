"""Log lines on stderr, for people or for machines. The command line calls `set_up` once; units use `logging` as usual.

Key=value pairs come from `extra={...}`. The unit is the second part of the logger's name (`canopy.devicetwin.core`).
"""

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
LINE_CHARACTERS = 16_384
REMEMBERED_LINES = 1_000
QUIET = ("aiosqlite", "asyncio", "nats", "urllib3")  # at DEBUG they would drown ours

TraceId = Callable[[], str | None]


def set_up(
    level: str = "INFO",
    format: Literal["plain", "json"] = "plain",
    trace_id: TraceId | None = None,
    stream: TextIO | None = None,
) -> logging.Handler:
    """Make the process's root logger write such lines, and nothing else. `trace_id` says the current trace, if any."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(trace_id) if format == "json" else PlainLines(trace_id))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    return handler


class PlainLines(logging.Formatter):
    """`HH:MM:SS.mmm LEVEL unit message key=value`, local time."""

    def __init__(self, trace_id: TraceId | None = None) -> None:
        super().__init__()
        self._trace_id = trace_id

    def format(self, record: logging.LogRecord) -> str:
        at = f"{time.strftime('%H:%M:%S', time.localtime(record.created))}.{int(record.msecs):03}"
        pairs = "".join(f" {key}={_plain(value)}" for key, value in _fields(record, self._trace_id).items())
        line = f"{at} {record.levelname:<7} {unit_of(record.name)} {_one_line(record.getMessage())}{pairs}"
        return line[:LINE_CHARACTERS] + _trace_back(self, record)


class JsonLines(logging.Formatter):
    """One object a line: at (UTC), level, unit, message, trace_id where there is one, and the extra fields."""

    def __init__(self, trace_id: TraceId | None = None) -> None:
        super().__init__()
        self._trace_id = trace_id

    def format(self, record: logging.LogRecord) -> str:
        body: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "unit": unit_of(record.name),
            "message": record.getMessage()[:LINE_CHARACTERS],
            **_fields(record, self._trace_id),
        }
        if record.exc_info:
            body["traceback"] = self.formatException(record.exc_info)[-LINE_CHARACTERS:]
        return json.dumps(body, default=str, ensure_ascii=False)


def unit_of(logger_name: str) -> str:
    parts = logger_name.split(".")
    return parts[1] if parts[0] == "canopy" and len(parts) > 1 else parts[0]


def _fields(record: logging.LogRecord, trace_id: TraceId | None) -> dict[str, Any]:
    found = {key: value for key, value in vars(record).items() if key not in STANDARD_FIELDS}
    current = trace_id() if trace_id else None
    return {**found, "trace_id": current} if current else found


def _plain(value: Any) -> str:
    text = _one_line(str(value))
    return json.dumps(text, ensure_ascii=False) if not text or any(c in text for c in ' "=') else text


def _one_line(text: str) -> str:
    """A device's text must not be able to forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _trace_back(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return "\n" + formatter.formatException(record.exc_info)[-LINE_CHARACTERS:] if record.exc_info else ""


class OncePer:
    """Whether to say a repeated line again. Made by `once_per`; remembers the last 1,000 keys."""

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._said: OrderedDict[str, float] = OrderedDict()

    def __call__(self, key: str) -> bool:
        now = self._monotonic()
        at = self._said.get(key)
        if at is not None and now - at < self._seconds:
            return False
        self._said[key] = now
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED_LINES:
            self._said.popitem(last=False)
        return True


def once_per(seconds: float, monotonic: Callable[[], float] = time.monotonic) -> OncePer:
    """`say = once_per(60)`, then `if say("link down"): log.warning(...)`: each key at most once in that time."""
    return OncePer(seconds, monotonic)
