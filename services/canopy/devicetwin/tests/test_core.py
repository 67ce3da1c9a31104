"""KubeEdge's semantics as tables: what an update does to a twin, and why it is refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.contracts.wire import MAX_STATE_BYTES, encode
from canopy.devicetwin import core
from canopy.devicetwin.core import Refused, TwinAsked, Updated
from canopy.devicetwin.device import Device, Property, Spec
from canopy.devicetwin.shelf import seal

NOW = 1_700_000_000_000
MODEL = Spec(
    properties={
        "power": Property(type="boolean"),
        "heat": Property(type="int", minimum="5", maximum="30"),
        "lux": Property(type="float", read_only=True),
    }
)


def asked(twin: dict[str, Any]) -> dict[str, TwinAsked | None]:
    """An update as JSON says it."""
    return msgspec.convert(twin, dict[str, TwinAsked | None])


def actual(value: str, kind: str | None = None) -> dict[str, Any]:
    return {"actual": {"value": value}, **({"metadata": {"type": kind}} if kind else {})}


def expected(value: str) -> dict[str, Any]:
    return {"expected": {"value": value}}


def after(*updates: dict[str, Any], spec: Spec = MODEL) -> Device:
    """A device behind updates that must all be taken."""
    device = Device("default", "d1", "u1", spec=spec)
    for number, twin in enumerate(updates):
        done = core.update(device, asked(twin), NOW + number)
        assert isinstance(done, Updated), done
        device = done.device
    return device


def shown(device: Device) -> dict[str, tuple[str | None, str | None, str]]:
    """(reported, expected, type) by key."""
    return {
        k: (t.reported.value if t.reported else None, t.expected.value if t.expected else None, t.type)
        for k, t in device.state.twins.items()
    }


@pytest.mark.parametrize(
    ("case", "updates", "twins", "differs", "revision"),
    [
        ("B1 a first report", [{"t": actual("1", "int")}], {"t": ("1", None, "int")}, {}, 1),
        ("B2 the next one", [{"t": actual("1", "int")}, {"t": actual("2")}], {"t": ("2", None, "int")}, {}, 2),
        ("an equal one", [{"t": actual("1", "int")}, {"t": actual("1")}], {"t": ("1", None, "int")}, {}, 1),
        (
            "B4 expected",
            [{"t": actual("1", "int")}, {"t": expected("5")}],
            {"t": ("1", "5", "int")},
            {"t": "5"},
            2,
        ),
        (
            "B5 the device agrees",
            [{"t": actual("1", "int")}, {"t": expected("5")}, {"t": actual("5")}],
            {"t": ("5", "5", "int")},
            {},
            3,
        ),
        (
            "B6 two differ, a third is reported",
            [{"a": expected("2"), "b": expected("3")}, {"c": actual("9")}],
            {"a": (None, "2", "string"), "b": (None, "3", "string"), "c": ("9", None, "string")},
            {"a": "2", "b": "3"},
            2,
        ),
        (
            "numbers agree as numbers",
            [{"t": actual("5.0", "float")}, {"t": expected("5")}],
            {"t": ("5.0", "5", "float")},
            {},
            2,
        ),
        (
            "text agrees as text",
            [{"t": actual("5.0")}, {"t": expected("5")}],
            {"t": ("5.0", "5", "string")},
            {"t": "5"},
            2,
        ),
        ("B12 null deletes", [{"t": actual("1", "int")}, {"t": None}], {}, {}, 2),
        (
            "B12 and another type may come",
            [{"t": actual("1", "int")}, {"t": None}, {"t": actual("x", "string")}],
            {"t": ("x", None, "string")},
            {},
            3,
        ),
        (
            "a type that is live stays",
            [{"t": actual("1", "int")}, {"t": actual("2", "string")}],
            {"t": ("2", None, "int")},
            {},
            2,
        ),
        ("the model gives the type", [{"heat": actual("20")}], {"heat": ("20", None, "int")}, {}, 1),
        ("null on what never was", [{"t": None}], {}, {}, 0),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_an_update_that_is_taken(
    case: str, updates: list[Any], twins: dict[str, Any], differs: dict[str, str], revision: int
) -> None:
    device = after(*updates)
    assert shown(device) == twins
    assert core.differing(device.state) == differs
    assert device.revision == revision
    assert device.acknowledged is (revision == 0)


LIVE = {"t": actual("1", "int"), "b": actual("true", "boolean"), "f": actual("1.5", "float"), "j": actual("{}", "json")}


@pytest.mark.parametrize(
    ("twin", "why"),
    [
        ({"t": actual("x")}, "the value is not int or integer"),
        ({"t": actual("1.0")}, "the value is not int or integer"),
        ({"t": actual(str(2**63))}, "the value is not int or integer"),
        ({"f": actual("one")}, "the value is not float"),
        ({"f": actual("1_0")}, "the value is not float"),
        ({"b": actual("True")}, "the bool value must be true or false"),
        ({"j": actual("{")}, "the value is not json"),
        ({"new": actual("1", "colour")}, "metadata.type 'colour', use one of boolean, bytes"),
        ({"t": actual("2"), "f": actual("x")}, "twin 'f', actual.value 'x'"),
        ({"bad key": actual("1")}, "1 to 128 characters"),
        ({"k" * 129: actual("1")}, "1 to 128 characters"),
        ({"": actual("1")}, "1 to 128 characters"),
        ({"t": {"actual": {}}}, "twin 't': actual has no value"),
        ({"new": {}}, "neither actual nor expected"),
        ({"t": {"metadata": {"type": "int"}}}, "neither actual nor expected"),
        ({"new": actual("x" * (64 * 1024 + 1))}, "longer than 65536 bytes"),
        ({"new": actual("ü" * (33 * 1024))}, "longer than 65536 bytes"),
        ({"lux": expected("3")}, "ReadOnly"),
        ({"heat": expected("31")}, "the value must be between 5 and 30"),
        ({"heat": expected("4")}, "the value must be between 5 and 30"),
        ({"heat": expected("warm")}, "the value is not int or integer"),
        ({f"k{i}": actual("x" * 60_000) for i in range(4)}, "state too large"),
        ({f"k{i}": actual("") for i in range(2001)}, "state too large: 2005 twins with this update, at most 2000"),
    ],
)
def test_an_update_that_is_refused_names_the_key_and_changes_nothing(twin: dict[str, Any], why: str) -> None:
    device = after(LIVE)
    done = core.update(device, asked(twin), NOW)
    assert isinstance(done, Refused)
    assert done.code == 400 and why in done.reason
    assert shown(device) == shown(after(LIVE))


def test_a_report_may_be_beyond_the_bounds_that_hold_for_what_is_expected() -> None:
    assert shown(after({"heat": actual("99"), "lux": actual("7")}))["heat"] == ("99", None, "int")


def test_null_on_a_twin_that_is_not_optional_changes_nothing_and_shows_nothing() -> None:
    device = after({"t": {**actual("1", "int"), "optional": False}})
    done = core.update(device, asked({"t": None}), NOW)
    assert isinstance(done, Updated)
    assert (done.device, done.keys) == (device, ())
    freed = after({"t": {**actual("1", "int"), "optional": False}}, {"t": {"optional": True}}, {"t": None})
    assert shown(freed) == {}


def test_a_value_of_64_kib_of_any_text_is_taken() -> None:
    text = ('{"a": "ü b"} ' * 10_000)[:60_000]
    assert shown(after({"t": actual(text)}))["t"][0] == text


def test_many_updates_of_one_batch_are_not_mistaken_for_a_large_state() -> None:
    device = after(*({"t": actual(str(i) * 100)} for i in range(300)))
    assert device.revision == 300


@pytest.mark.parametrize("said", ["online", "OFFLINE", "Ok", "unknown", "unhealthy"])
def test_a_state_is_taken_in_any_case(said: str) -> None:
    device = core.say_state(Device("default", "d1", "u1"), said, NOW)
    assert isinstance(device, Device)
    assert (device.state.state, device.state.last_online) == (said.lower(), NOW if said == "online" else 0)


def test_another_state_is_refused_and_the_right_ones_are_named() -> None:
    refused = core.say_state(Device("default", "d1", "u1"), "foo", NOW)
    assert isinstance(refused, Refused) and "online, offline, ok, unknown, unhealthy" in refused.reason


def test_online_again_moves_the_time_at_once_for_a_device_and_seldom_for_a_mapper() -> None:
    first = core.say_state(Device("default", "d1", "u1"), "online", NOW)
    assert isinstance(first, Device)
    by_device = core.say_state(first, "online", NOW + 1000)
    by_mapper = core.say_state(first, "online", NOW + 1000, core.ONLINE_AGAIN_MS)
    assert isinstance(by_device, Device) and by_device.state.last_online == NOW + 1000
    assert by_mapper is first


KEYS = st.sampled_from(["a", "b", "heat", "lux", "bad key"])
VALUES = st.one_of(st.sampled_from(["1", "20", "true", "x", ""]), st.text(max_size=20))
SIDES = st.one_of(st.none(), st.builds(lambda v: {"value": v}, VALUES), st.just({}))
WISHES = st.one_of(
    st.none(),
    st.builds(
        lambda a, e, o, t: {"actual": a, "expected": e, "optional": o, "metadata": t},
        SIDES,
        SIDES,
        st.sampled_from([None, True, False]),
        st.sampled_from([None, {"type": "int"}, {"type": "json"}, {"type": "odd"}, {}]),
    ),
)


@given(st.lists(st.dictionaries(KEYS, WISHES, max_size=4), max_size=12))
def test_the_newest_value_wins_and_the_revision_only_rises(updates: list[dict[str, Any]]) -> None:
    device = Device("default", "d1", "u1", spec=MODEL)
    for number, twin in enumerate(updates):
        wishes = asked(twin)
        done = core.update(device, wishes, NOW + number)
        if isinstance(done, Refused):
            continue
        new = done.device
        same = new.state == device.state
        assert new.revision == device.revision + (not same)
        assert same or not new.acknowledged
        for key, wish in wishes.items():
            if wish is None:
                assert key not in new.state.twins or key in device.local.required
            elif wish.actual is not None:
                held = new.state.twins[key].reported
                assert held is not None and held.value == wish.actual.value
        assert set(new.local.required) <= new.state.twins.keys()
        assert len(encode(new.state)) <= max(new.weight, MAX_STATE_BYTES)
        device = new
    assert seal(device)[0].weight == len(encode(device.state))
