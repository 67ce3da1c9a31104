"""What a device's reports say is wrong with it."""

import pytest

from canopy.contracts.wire import MapperResult, Problem
from canopy.mapper.core import Device, State
from canopy.mapper.jobs import Answered, Misconfigured, Outcome, Pace, Unreachable
from canopy.mapper.sdk import DeviceView, PropertyFailed, PropertyView, Value

SWITCH, LEVEL = PropertyView("switch", "boolean"), PropertyView("level", "int", minimum=0, maximum=100)
VIEW = DeviceView("default", "light", "modbus", (SWITCH, LEVEL), uid="u1", digest="d1")
GOOD: dict[str, Value | PropertyFailed] = {"switch": False, "level": 1}
BAD = {**GOOD, "level": PropertyFailed("illegal data address")}


def half() -> float:
    return 0.5


def device() -> Device:
    return Device(VIEW, Pace(), 0.0, half)


def do(d: Device, now: float, outcome: Outcome) -> None:
    d.took(d.job(now), outcome, now, half)


def said(d: Device, now: float = 9.0, desired: dict[str, str] | None = None) -> list[Problem] | None:
    """The problems of the next report, which is taken."""
    report = d.report("m1", 1)
    assert report is not None
    d.answered(report, MapperResult(outcome="ok", desired=desired or {}), now, half)
    return report.problems


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [
        (Unreachable("no answer"), Problem(code="Unreachable", reason="no answer", since=500)),
        (Misconfigured("port: is missing"), Problem(code="Misconfigured", reason="port: is missing", since=500)),
        (Answered(BAD), Problem(code="ReadFailed", reason="illegal data address", property="level", since=500)),
    ],
)
def test_a_report_says_what_is_wrong_since_when(outcome: Outcome, problem: Problem) -> None:
    d = device()
    do(d, 0.5, outcome)
    assert said(d) == [problem]


def test_what_was_well_before_bears_when_it_last_was_and_is_taken_back_when_it_is_again() -> None:
    d = device()
    do(d, 0.5, Answered(GOOD))
    assert said(d) == []
    do(d, 1.5, Unreachable("no answer"))
    assert said(d) == [Problem(code="Unreachable", reason="no answer", since=1500, last_success=500)]
    do(d, 2.5, Answered(GOOD))
    assert said(d) == []


def test_the_same_trouble_again_is_no_report_and_another_reason_keeps_its_beginning() -> None:
    d = device()
    do(d, 0.5, Unreachable("no answer"))
    said(d)
    do(d, 2.5, Unreachable("no answer"))
    assert d.report("m1", 2) is None
    do(d, 4.5, Unreachable("refused"))
    assert said(d) == [Problem(code="Unreachable", reason="refused", since=500)]


def test_one_wrong_register_leaves_the_device_online_and_the_other_properties_going_on() -> None:
    d = device()
    do(d, 0.5, Answered(BAD))
    report = d.report("m1", 1)
    assert report is not None and report.state == "online" and report.values == {"switch": "false"}
    assert [p.property for p in report.problems or ()] == ["level"] and d.state is State.ONLINE


@pytest.mark.parametrize(
    ("desired", "outcome", "code", "reason"),
    [
        ({"level": "101"}, Answered(GOOD), "WriteRefused", "100"),
        ({"colour": "red"}, Answered(GOOD), "WriteRefused", "the DeviceModel has no such property"),
        ({"level": "7"}, Answered(GOOD, failed={"level": "busy"}), "WriteFailed", "busy"),
        ({"level": "7"}, Answered(GOOD, refused={"level": "locked"}), "WriteRefused", "locked"),
    ],
)
def test_a_wish_that_cannot_be_written_is_said_until_it_is_no_longer_wanted(
    desired: dict[str, str], outcome: Answered, code: str, reason: str
) -> None:
    d = device()
    do(d, 0.5, Answered(GOOD))
    said(d, 0.5, desired)
    do(d, 1.5, outcome)
    (problem,) = said(d, 1.5, desired) or ()
    assert problem.code == code and reason in problem.reason and problem.property in desired
    d.want({}, 2.0)
    assert said(d) == []


def test_a_reason_is_cut_and_cannot_steer_a_terminal() -> None:
    d = device()
    do(d, 0.5, Unreachable("\x1b[31m" + "x" * 1000))
    (problem,) = said(d) or ()
    assert len(problem.reason) == 200 and "\x1b" not in problem.reason
