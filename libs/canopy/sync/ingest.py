"""Where DeviceTwin goes on reading the gateway's stream (RULES 28-32). The position is committed with the twins."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """The last message applied: sequence, and of which stream (creation time) and server run."""

    seq: int = 0
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
    """Reset the consumer to `start`; `position` is to be stored before anybody is let in."""

    position: Position
    start: int


def resume(position: Position, stream: StreamNow) -> Resume:
    """Where to go on after a start or a reconnect.

    No device was let in since the server started, so in another run the end of the stream is the old end (RULES 29).
    """
    if position.created != stream.created:
        seq = 0
    elif position.run != stream.run:
        seq = min(position.seq, stream.last)
    else:
        seq = position.seq
    return Resume(Position(seq, stream.created, stream.run), _clamp(seq + 1, stream))


def _clamp(seq: int, stream: StreamNow) -> int:
    """Within [first, last + 1]: a reset beyond the end would be accepted, and pass over what comes next (RULES 32)."""
    return max(1, stream.first, min(seq, stream.last + 1))
