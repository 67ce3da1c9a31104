"""What is wrong with a device as conditions of its DeviceStatus, which has no field of its own for it. Pure.

A device that never had a trouble bears none of them: its status is as KubeEdge's. One that had turns to True, so that
whoever waits for it sees that. `core` calls it with the record of TWINS.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from canopy.contracts.devices import Condition
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import (
    DESIRED_REFUSED,
    MISCONFIGURED,
    READ_FAILED,
    UNREACHABLE,
    WRITE_FAILED,
    WRITE_REFUSED,
    Problem,
    TwinRecord,
)

MAX_MESSAGE_CHARACTERS = 1000
CODES = {
    "Reachable": (UNREACHABLE, MISCONFIGURED),
    "PropertiesRead": (READ_FAILED,),
    "DesiredAccepted": (DESIRED_REFUSED, WRITE_REFUSED, WRITE_FAILED),
}
"""The codes of PROBLEMS that make a condition False. What a later edge says beyond these stands with `Reachable`."""
_KNOWN = frozenset(code for codes in CODES.values() for code in codes)


def conditions_of(held: Sequence[Condition], twin: TwinRecord, generation: int) -> tuple[Condition, ...]:
    """The conditions of a DeviceStatus: others' as they are, then ours."""
    ours = {c.type: c for c in held if c.type in CODES}
    found = [_condition(type, ours.get(type), twin, generation) for type in CODES]
    return (*(c for c in held if c.type not in CODES), *(c for c in found if c is not None))


def _condition(type: str, held: Condition | None, twin: TwinRecord, generation: int) -> Condition | None:
    problems = [p for p in twin.state.problems if p.code in CODES[type] or (_of_device(type) and p.code not in _KNOWN)]
    if not problems:
        return None if held is None else _made(type, "True", "AsItShouldBe", "", _since(held, "True", twin), generation)
    reason, message = problems[0].code, _message(problems)
    return _made(type, "False", reason, message, rfc3339(min(p.since for p in problems)), generation)


def _of_device(type: str) -> bool:
    return type == "Reachable"


def _since(held: Condition, status: str, twin: TwinRecord) -> str:
    return held.last_transition_time if held.status == status else rfc3339(twin.received)


def _made(
    type: str, status: Literal["True", "False"], reason: str, message: str, since: str, generation: int
) -> Condition:
    return Condition(
        type=type,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )


def _message(problems: Iterable[Problem]) -> str:
    text = "; ".join(f"{p.property}: {p.reason}" if p.property else p.reason for p in problems)
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 3] + "..."
