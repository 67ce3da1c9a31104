"""What is wrong with a device, as conditions of its DeviceStatus."""

import pytest

from canopy.contracts.devices import Condition
from canopy.contracts.wire import DeviceState, Problem, TwinRecord
from canopy.devicecontroller.troubles import conditions_of

SINCE, THEN = 1_700_000_000_000, "2023-11-14T22:13:20Z"


def twin(*problems: Problem) -> TwinRecord:
    return TwinRecord(
        node="a", namespace="default", name="d", uid="u1", device_revision=9, session=3, n=4, revision=1, digest="x",
        received=SINCE + 60_000, state=DeviceState(problems=list(problems)),
    )  # fmt: skip


def problem(code: str, property: str = "") -> Problem:
    return Problem(code=code, reason="because", property=property, since=SINCE)


@pytest.mark.parametrize(
    ("code", "property", "type", "message"),
    [
        ("Unreachable", "", "Reachable", "because"),
        ("Misconfigured", "", "Reachable", "because"),
        ("ReadFailed", "t", "PropertiesRead", "t: because"),
        ("WriteFailed", "t", "DesiredAccepted", "t: because"),
        ("WriteRefused", "t", "DesiredAccepted", "t: because"),
        ("DesiredRefused", "t", "DesiredAccepted", "t: because"),
        ("SomethingOfALaterEdge", "t", "Reachable", "t: because"),
    ],
)
def test_each_problem_is_a_condition_with_its_code_since_when(
    code: str, property: str, type: str, message: str
) -> None:
    (found,) = conditions_of((), twin(problem(code, property)), 7)
    assert (found.type, found.status, found.reason, found.message) == (type, "False", code, message)
    assert (found.last_transition_time, found.observed_generation) == (THEN, 7)


def test_a_device_that_never_had_a_trouble_bears_none_of_them() -> None:
    assert conditions_of((), twin(), 1) == ()


def test_what_is_well_again_turns_to_true_when_that_was_heard_and_stays_so() -> None:
    bad = conditions_of((), twin(problem("Unreachable")), 1)
    (good,) = conditions_of(bad, twin(), 1)
    assert (good.status, good.reason, good.last_transition_time) == ("True", "AsItShouldBe", "2023-11-14T22:14:20Z")
    assert conditions_of((good,), twin(), 1) == (good,)


def test_the_conditions_of_others_stay() -> None:
    theirs = Condition(type="Theirs", status="True")
    assert conditions_of((theirs,), twin(problem("Unreachable")), 1)[0] == theirs


def test_a_long_message_is_cut() -> None:
    many = [Problem(code="ReadFailed", reason="r" * 200, property=f"p{i}") for i in range(32)]
    (found,) = conditions_of((), twin(*many), 1)
    assert len(found.message) == 1000 and found.message.endswith("...")
