"""Several traces of one thing: a state that waits bears those of every change that it shows. `tracing` opens spans.

As text they are traceparents with commas between, the newest last, one a trace, at most MOST_TRACES.
"""

from types import TracebackType

from canopy.runtime.telemetry.handles import Span, Spanning, Value

MOST_TRACES = 4
MOST_CHARACTERS = MOST_TRACES * 64
_ID = slice(3, 35)


def apart(text: str) -> list[str]:
    """The single traceparents; what is too long to be ours is none."""
    return [t for t in text.split(",") if t] if len(text) <= MOST_CHARACTERS else []


def joined(*texts: str) -> str:
    """All of them; of each trace the newest span, and the newest traces."""
    found: dict[str, str] = {}
    for text in texts:
        for one in apart(text):
            found.pop(one[_ID], None)
            found[one[_ID]] = one
    return ",".join(list(found.values())[-MOST_TRACES:])


def newest(text: str) -> str:
    """The last one; empty if there is none."""
    return text.rpartition(",")[2] if len(text) <= MOST_CHARACTERS else ""


class Several:
    """Spans around the same piece of work, one in each trace. What is done inside belongs to the last one's."""

    def __init__(self, spannings: list[Spanning]) -> None:
        self._spannings = spannings
        self._spans: list[Span] = []

    @property
    def recording(self) -> bool:
        return any(span.recording for span in self._spans)

    @property
    def traceparent(self) -> str:
        """To be handed on: all of them."""
        return joined(*(span.traceparent for span in self._spans))

    def set(self, key: str, value: Value) -> None:
        for span in self._spans:
            span.set(key, value)

    def fail(self, why: str) -> None:
        for span in self._spans:
            span.fail(why)

    def __enter__(self) -> Span:
        self._spans = [spanning.__enter__() for spanning in self._spannings]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for spanning in reversed(self._spannings):
            spanning.__exit__(kind, error, trace)
