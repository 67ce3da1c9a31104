"""Where DeviceTwin goes on reading the gateway's stream (RULES 28-32). The position is committed with the twins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last message applied: sequence, time in ns, and of which stream (creation time) and server run."""

    seq: int = 0
    time_ns: int = 0
    created: str = ""
    run: str = ""


@dataclass(frozen=True, slots=True)
class StreamNow:
    """The stream as the server describes it: creation time, first and last sequence, and the server's run (its id)."""

    created: str
    first: int
    last: int
    run: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Reset the consumer to `start`, and pass over messages up to `skip_until_ns` (0: none)."""

    position: Position
    start: int
    skip_until_ns: int = 0


def resume(position: Position, stream: StreamNow, gated: bool) -> Resume:
    """Where to go on after a start or a reconnect.

    Gated: no device was let in since the server started, so the end of the stream is the old end (RULES 29). Without
    a gate, what lies at or before the position's time is passed over; that loses reports when the clock steps back.
    The position then stays of the old run until something is applied: its sequence says nothing in the new one, and a
    second reconnect must not go on behind it.
    """
    if position.created != stream.created:
        return Resume(Position(0, 0, stream.created, stream.run), _clamp(1, stream))
    here = Position(position.seq, position.time_ns, stream.created, stream.run)
    if position.run == stream.run:
        return Resume(here, _clamp(position.seq + 1, stream))
    if gated:
        seq = min(position.seq, stream.last)
        return Resume(Position(seq, position.time_ns, stream.created, stream.run), _clamp(seq + 1, stream))
    return Resume(position, _clamp(1, stream), skip_until_ns=position.time_ns)


def _clamp(seq: int, stream: StreamNow) -> int:
    """Within [first, last + 1]: a reset beyond the end would be accepted, and pass over what comes next (RULES 32)."""
    return max(1, stream.first, min(seq, stream.last + 1))
