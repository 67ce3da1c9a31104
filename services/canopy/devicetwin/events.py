"""What can happen to a node's devices: everything that comes to the worker (`handlers`) and goes into a `batch`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from canopy.contracts.wire import AsOf, MapperReport, MapperResult, Name, StateEntry
from canopy.devicetwin.desired import Facts


class Spoken(NamedTuple):
    """A message on one of the topics on which devices speak, with the `traceparent` of its header.

    `time_ns` is when the gateway stored it, or when it was heard; `seq` its place in the stream (0: not stored).
    """

    address: str
    data: bytes
    trace: str = ""
    time_ns: int = 0
    seq: int = 0


class Reported(NamedTuple):
    """A mapper's report; `answer` is called with what became of it, after the commit (None: it was not stored)."""

    report: MapperReport
    answer: Callable[[MapperResult | None], None]
    trace: str = ""


class SetRead(NamedTuple):
    """The proven set: every device of this node."""

    devices: Mapping[Name, Facts]
    as_of: AsOf


class Acknowledged(NamedTuple):
    """Rows that the cloud stores just so (RULES 19); `then` is called after the commit, also if no row is so now."""

    entries: tuple[StateEntry, ...]
    then: Callable[[], None] = lambda: None


class Resend(NamedTuple):
    """Devices whose state the cloud does not hold."""

    names: tuple[Name, ...]


class Repeat(NamedTuple):
    """Devices to which their delta is said again."""

    names: tuple[Name, ...]


class Bug(NamedTuple):
    """What could not be applied: where it came from, its body, its trace, and what it raised."""

    source: str
    error: Exception
    body: bytes = b""
    trace: str = ""


Event = Spoken | Reported | SetRead | Acknowledged | Resend | Repeat


def in_order(stored: Sequence[Spoken], heard: Sequence[Event]) -> Iterator[Event]:
    """Both in their own order; what was stored before a message was heard comes before it."""
    at = 0
    for event in heard:
        while isinstance(event, Spoken) and at < len(stored) and stored[at].time_ns <= event.time_ns:
            yield stored[at]
            at += 1
        yield event
    yield from stored[at:]
