"""The core of one device: tables of what happens and what follows."""

import pytest

from canopy.contracts.wire import MapperReport, MapperResult
from canopy.mapper.core import NEVER, Device, State
from canopy.mapper.jobs import Answered, Job, Misconfigured, Outcome, Pace, Unreachable, Waits
from canopy.mapper.sdk import DeviceView, PropertyFailed, PropertyView, Value

SWITCH = PropertyView("switch", "boolean")
BRIGHTNESS = PropertyView("brightness", "int", minimum=0, maximum=100)
WARMTH = PropertyView("warmth", "float")
POWER = PropertyView("power", "float", read_only=True, collect_cycle_ms=5000)
VIEW = DeviceView("default", "light", "modbus", (SWITCH, BRIGHTNESS, WARMTH, POWER), uid="u1", digest="d1")
FIRST = {"switch": False, "brightness": 50, "warmth": 0.5, "power": 0.0}
PACE = Pace(first_poll_within_seconds=1.0)


def half() -> float:
    return 0.5


def device(view: DeviceView = VIEW) -> Device:
    return Device(view, PACE, 0.0, half)


def do(d: Device, now: float, outcome: Outcome) -> list[str]:
    return d.took(d.job(now), outcome, now, half)


def online(values: dict[str, Value] | None = None) -> Device:
    d = device()
    do(d, 0.5, Answered(values or FIRST))
    ok(d, 0.5)
    return d


def ok(d: Device, now: float, desired: dict[str, str] | None = None) -> MapperReport:
    report = d.report("m1", 1)
    assert report is not None
    d.answered(report, MapperResult(outcome="ok", desired=desired or {}), now, half)
    return report


def test_the_first_job_comes_after_a_jitter_and_opens_and_reads_everything() -> None:
    d = device()
    assert d.next_at() == 0.5
    assert d.job(0.5) == Job(open=True, read=VIEW.properties, cycles=frozenset({1.0, 5.0}))


def test_a_device_that_comes_online_reports_its_state_and_all_values_as_text() -> None:
    d = device()
    assert do(d, 0.5, Answered(FIRST)) == ["default/light is online"]
    assert d.report_at == 0.5
    assert d.report("m1", 7) == MapperReport(
        namespace="default",
        name="light",
        mapper="m1",
        seq=7,
        state="online",
        values={"switch": "false", "brightness": "50", "warmth": "0.5", "power": "0"},
        types={"switch": "boolean", "brightness": "int", "warmth": "float", "power": "float"},
        problems=[],
    )


def test_each_property_is_read_in_its_own_cycle_and_what_is_due_together_is_read_together() -> None:
    d = online()
    assert d.next_at() == 1.5
    assert [p.name for p in d.job(1.5).read] == ["switch", "brightness", "warmth"]
    for now in (1.5, 2.5, 3.5, 4.5):
        do(d, now, Answered({}))
    assert [p.name for p in d.job(5.5).read] == ["switch", "brightness", "warmth", "power"]


def test_a_slow_device_skips_turns_and_does_not_hurry_after_them() -> None:
    d = device(DeviceView("default", "slow", "modbus", (SWITCH,)))
    do(d, 0.5, Answered({"switch": True}))
    d.took(d.job(1.5), Answered({}), 9.0, half)
    assert d.next_at() == 10.0


def test_an_equal_value_says_nothing_and_a_changed_one_is_said_alone() -> None:
    d = online()
    do(d, 1.5, Answered(FIRST))
    assert d.report("m1", 2) is None
    do(d, 2.5, Answered({**FIRST, "switch": True}))
    report = d.report("m1", 3)
    assert report is not None and (report.values, report.state) == ({"switch": "true"}, "")


def test_only_the_newest_value_is_said_when_an_answer_took_long() -> None:
    d = online()
    do(d, 1.5, Answered({"brightness": 51}))
    first = d.report("m1", 2)
    assert first is not None
    do(d, 2.5, Answered({"brightness": 52}))
    do(d, 3.5, Answered({"brightness": 53}))
    assert d.report("m1", 3) is None, "one report is under way"
    d.answered(first, MapperResult(outcome="ok"), 3.6, half)
    second = d.report("m1", 4)
    assert second is not None and second.values == {"brightness": "53"}


def test_a_report_that_nobody_answered_is_made_anew_after_growing_waits() -> None:
    d = online()
    do(d, 1.5, Answered({"brightness": 51}))
    waits = []
    for _ in range(3):
        assert d.report("m1", 2) is not None
        d.unanswered(2.0, half)
        waits.append(round(d.report_at - 2.0, 3))
    assert waits == [0.15, 0.3, 0.6]
    do(d, 2.5, Answered({"brightness": 52}))
    assert d.report_at > 2.5, "a new value does not end the wait"
    report = d.report("m1", 3)
    assert report is not None and report.values == {"brightness": "52"}


@pytest.mark.parametrize("outcome", ["older", "refused"])
def test_what_the_twin_did_not_take_is_noted_once_and_said_again(outcome: str) -> None:
    d = online()
    do(d, 1.5, Answered({"brightness": 51}))
    notes = []
    for _ in range(2):
        report = d.report("m1", 2)
        assert report is not None
        notes.append(d.answered(report, MapperResult(outcome=outcome, reason="why"), 2.0, half))
    assert notes == [[f"default/light: the twin did not take the report, {outcome}: why"], []]
    assert d.report_at != NEVER


def test_everything_is_said_again_once_a_minute() -> None:
    d = online()
    do(d, 59.0, Answered(FIRST))
    assert d.report("m1", 2) is None
    do(d, 60.0, Answered(FIRST))
    report = d.report("m1", 3)
    assert report is not None and set(report.values) == set(FIRST) and report.state == "online"


def test_a_failed_read_says_offline_and_opens_again_after_growing_waits() -> None:
    d = online()
    assert do(d, 1.5, Unreachable("no answer")) == ["default/light is offline: no answer"]
    report = ok(d, 1.5)
    assert (report.state, report.values) == ("offline", {})
    waits, now = [], 1.5
    for _ in range(8):
        waits.append(d.next_at() - now)
        now = d.next_at()
        assert d.job(now).open
        assert do(d, now, Unreachable("no answer")) == []
    assert [round(w, 3) for w in waits] == [0.375, 0.75, 1.5, 3.0, 6.0, 12.0, 22.5, 22.5]


def test_a_device_that_comes_back_says_all_its_values() -> None:
    d = online()
    do(d, 1.5, Unreachable("no answer"))
    ok(d, 1.5)
    assert do(d, 2.0, Answered(FIRST)) == ["default/light is online"]
    report = ok(d, 2.0)
    assert (report.state, len(report.values)) == ("online", 4)
    assert d.next_at() == 2.5, "in step with its polls before"


def test_a_device_on_a_line_that_came_back_is_tried_at_once() -> None:
    d = online()
    do(d, 1.5, Unreachable("no answer"))
    assert d.waits_to_retry
    d.retry(1.6)
    assert d.next_at() == 1.6


def test_a_bad_configuration_is_unhealthy_and_nothing_is_tried_again() -> None:
    d = device()
    assert do(d, 0.5, Misconfigured("register: is missing")) == ["default/light is unhealthy: register: is missing"]
    assert d.next_at() == NEVER
    assert ok(d, 0.5).state == "unhealthy"


def test_a_property_that_fails_is_noted_once_and_hurts_no_other() -> None:
    d = online()
    failed = PropertyFailed("exception 2")
    job = Job(read=VIEW.properties)
    notes = [d.took(job, Answered({"switch": True, "power": failed}), now, half) for now in (5.5, 6.5)]
    notes.append(d.took(job, Answered({"power": 4.0}), 7.5, half))
    assert notes == [
        ["default/light: property power cannot be read: exception 2"],
        [],
        ["default/light: property power is read again"],
    ]
    report = d.report("m1", 2)
    assert report is not None and report.values == {"switch": "true", "power": "4"}


def test_a_value_of_another_type_fails_the_property_with_a_clear_text() -> None:
    d = online()
    assert do(d, 1.5, Answered({"brightness": 20.5})) == [
        'default/light: property brightness cannot be read: the device said 20.5: "20.5" is not a whole number'
    ]


def test_a_delta_is_written_at_once_and_read_back_and_reported() -> None:
    d = online()
    assert d.want({"switch": "true"}, 0.7) == []
    assert d.next_at() == 0.7
    job = d.job(0.7)
    assert (job.write, job.read) == (((SWITCH, "true"),), (SWITCH,))
    d.took(job, Answered({"switch": True}), 0.7, half)
    assert ok(d, 0.7).values == {"switch": "true"}
    assert d.wanted == {}
    assert d.next_at() == 1.5, "the next poll stays where it was"


@pytest.mark.parametrize(
    ("desired", "note"),
    [
        ({"power": "3"}, "default/light: power is not set to '3': the property is ReadOnly"),
        ({"brightness": "101"}, "default/light: brightness is not set to '101': 101 is above the maximum 100"),
        ({"brightness": "-1"}, "default/light: brightness is not set to '-1': -1 is below the minimum 0"),
        ({"brightness": "x"}, "default/light: brightness is not set to 'x': \"x\" is not a whole number"),
        ({"switch": "on"}, "default/light: switch is not set to 'on': \"on\" is not true or false"),
        ({"warmth": "nan"}, "default/light: warmth is not set to 'nan': \"nan\" is not a number"),
        ({"colour": "red"}, "default/light: colour is not set to 'red': the DeviceModel has no such property"),
    ],
)
def test_what_cannot_be_written_is_noted_once_and_never_written(desired: dict[str, str], note: str) -> None:
    d = online()
    assert d.want(desired, 0.7) == [note]
    assert d.want(desired, 0.8) == []
    assert d.job(0.8).write == ()
    good = {**desired, "switch": "true"}
    d.want(good, 0.9)
    assert [p.name for p, _ in d.job(0.9).write] == ["switch"]


def test_only_the_newest_desired_value_is_written() -> None:
    d = online()
    d.want({"brightness": "10"}, 0.7)
    d.want({"brightness": "20", "switch": "true"}, 0.8)
    d.want({"brightness": "30"}, 0.9)
    assert d.job(0.9).write == ((BRIGHTNESS, "30"),)


def test_a_delta_for_a_device_that_is_away_is_written_when_it_is_back() -> None:
    d = online()
    do(d, 1.5, Unreachable("no answer"))
    d.want({"switch": "true"}, 1.6)
    assert d.next_at() > 1.6
    job = d.job(d.next_at())
    assert job.open and job.write == ((SWITCH, "true"),) and job.read == VIEW.properties


def test_a_device_that_does_not_do_it_is_written_again_after_growing_waits() -> None:
    d = online()
    waits, now = [], 0.7
    for _ in range(4):
        d.want({"switch": "true"}, now)
        assert d.job(now).write
        do(d, now, Answered({"switch": False}))
        ok(d, now, {"switch": "true"})
        at = d.wanted["switch"].at
        waits.append(round(at - now, 3))
        now = at
    assert waits == [0.75, 1.5, 3.0, 6.0]


def test_a_write_that_the_driver_refuses_is_noted_and_not_tried_again() -> None:
    d = online()
    d.want({"warmth": "0.33"}, 0.7)
    notes = do(d, 0.7, Answered({"warmth": 0.5}, refused={"warmth": "no multiple of 0.1"}))
    assert notes == ["default/light: warmth is not set to '0.33': no multiple of 0.1"]
    d.want({"warmth": "0.33"}, 0.8)
    assert d.next_at() == 1.5


def test_a_value_is_reported_in_the_words_of_the_one_who_wants_it() -> None:
    d = online()
    d.want({"warmth": "0.80"}, 0.7)
    do(d, 0.7, Answered({"warmth": 0.8}))
    assert ok(d, 0.7).values == {"warmth": "0.80"}
    do(d, 1.5, Answered({"warmth": 0.8}))
    assert d.report("m1", 2) is None


def test_what_the_device_has_already_is_said_and_not_written() -> None:
    d = online()
    d.want({"warmth": "0.50"}, 0.7)
    assert d.next_at() > 0.7
    assert ok(d, 0.7, {"warmth": "0.50"}).values == {"warmth": "0.50"}
    assert d.report("m1", 2) is None, "no loop where the twin goes on to want it"


def test_a_change_of_mind_while_a_write_is_under_way_is_written_next() -> None:
    d = online()
    d.want({"brightness": "10"}, 0.7)
    job = d.job(0.7)
    d.want({"brightness": "20"}, 0.75)
    d.took(job, Answered({"brightness": 10}), 0.8, half)
    assert d.next_at() <= 0.8
    assert d.job(0.8).write == ((BRIGHTNESS, "20"),)


def test_a_device_that_leaves_is_due_at_once_and_reports_no_more() -> None:
    d = online()
    do(d, 1.5, Answered({"brightness": 51}))
    d.leave()
    assert d.next_at() == -NEVER
    assert d.report("m1", 2) is None


def test_a_device_without_properties_is_opened_and_never_read() -> None:
    d = device(DeviceView("default", "bare", "modbus"))
    do(d, d.next_at(), Answered({}))
    assert d.state is State.ONLINE
    assert d.next_at() == NEVER


def test_a_report_is_cut_where_it_would_be_too_large_and_the_rest_follows() -> None:
    many = tuple(PropertyView(f"p{i}", "string") for i in range(4))
    d = device(DeviceView("default", "large", "modbus", many))
    do(d, 1.0, Answered({p.name: "x" * 60_000 for p in many}))
    sizes = [len(ok(d, 1.0).values) for _ in range(2)]
    assert sizes == [2, 2]


@pytest.mark.parametrize(("chance", "least"), [(0.0, 0.5), (1.0, 1.0)])
def test_waits_are_between_half_and_the_whole_and_bounded(chance: float, least: float) -> None:
    waits = Waits(1.0, 30.0)
    assert waits.wait(1, lambda: chance) == least
    assert waits.wait(1000, lambda: chance) == 30.0 * least
