"""What the cloud says of devices: which desired values are taken, and when."""

import json
from typing import Any

import msgspec
import pytest

from canopy.contracts.wire import Entry, Put
from canopy.devicetwin import core, desired
from canopy.devicetwin.core import Asked, TwinAsked, Updated
from canopy.devicetwin.desired import Adopted, Facts, adopt
from canopy.devicetwin.device import Device, Property, Spec

NAME = ("default", "d1")
NOW = 1_700_000_000_000
PROPERTIES = {
    "power": Property(type="boolean"),
    "heat": Property(type="int", minimum="5", maximum="30"),
    "lux": Property(type="float", read_only=True),
}


def said(uid: str = "u1", revision: int = 1, **wanted: str) -> Facts:
    properties = {k: msgspec.structs.replace(p, desired=wanted.get(k)) for k, p in PROPERTIES.items()}
    return Facts(uid, revision, Spec(properties=properties))


def follow(*facts: Facts, device: Device | None = None) -> Adopted:
    done = Adopted(device, (), {})  # type: ignore[arg-type]
    for one in facts:
        done = adopt(done.device, NAME, one, NOW, 65536)
    return done


def expected(device: Device) -> dict[str, str]:
    return {k: t.expected.value for k, t in device.state.twins.items() if t.expected}


def update(device: Device, **sides: TwinAsked) -> Device:
    done = core.update(device, sides, NOW)
    assert isinstance(done, Updated), done
    return done.device


@pytest.mark.parametrize(
    ("case", "facts", "wants", "keys", "refused"),
    [
        ("a desired value is taken", [said(power="true")], {"power": "true"}, ("power",), []),
        ("the same again does nothing", [said(power="true"), said(power="true")], {"power": "true"}, (), []),
        ("another one is taken", [said(heat="20"), said(heat="21")], {"heat": "21"}, ("heat",), []),
        ("withdrawn is withdrawn", [said(heat="20"), said()], {}, ("heat",), []),
        ("ReadOnly is not taken", [said(lux="1")], {}, (), ["lux"]),
        ("beyond the bounds is not taken", [said(heat="20"), said(heat="31")], {"heat": "20"}, (), ["heat"]),
        ("another type is not taken", [said(power="on")], {}, (), ["power"]),
        ("another uid begins anew", [said(heat="20"), said("u2", power="true")], {"power": "true"}, ("power",), []),
        (
            "another uid takes the same value anew",
            [said(heat="20"), said("u2", heat="20")],
            {"heat": "20"},
            ("heat",),
            [],
        ),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_desired_values(case: str, facts: list[Facts], wants: Any, keys: Any, refused: list[str]) -> None:
    done = follow(*facts)
    assert expected(done.device) == wants
    assert done.keys == keys
    assert list(done.refused) == refused


def test_an_edit_of_one_property_does_not_impose_the_old_value_of_another() -> None:
    device = follow(said(heat="20")).device
    device = update(device, heat=TwinAsked(expected=Asked("25")))  # set at the edge since
    device = follow(said(heat="20", power="true"), device=device).device
    assert expected(device) == {"heat": "25", "power": "true"}


def test_a_value_set_at_the_edge_stays_when_the_cloud_withdraws_its_own() -> None:
    device = update(follow(said(heat="20")).device, heat=TwinAsked(expected=Asked("25")))
    assert expected(follow(said(), device=device).device) == {"heat": "25"}


def test_what_was_refused_is_taken_when_its_bounds_allow_it() -> None:
    done = follow(said(heat="31"))
    wider = {**PROPERTIES, "heat": Property(type="int", maximum="40", desired="31")}
    done = adopt(done.device, NAME, Facts("u1", 2, Spec(properties=wider)), NOW, 65536)
    assert expected(done.device) == {"heat": "31"} and not done.refused


def test_what_the_device_reported_stays_when_its_desired_value_goes() -> None:
    device = update(follow(said(heat="20")).device, heat=TwinAsked(actual=Asked("19")))
    twin = follow(said(), device=device).device.state.twins["heat"]
    assert twin.expected is None and twin.reported is not None and twin.reported.value == "19"


def test_only_what_changes_the_state_raises_the_revision() -> None:
    device = follow(said(revision=1)).device
    assert (device.revision, device.acknowledged, device.device_revision) == (0, True, 1)
    device = follow(said(revision=2), device=device).device
    assert (device.revision, device.device_revision) == (0, 2)
    device = follow(said(revision=3, heat="20"), device=device).device
    assert (device.revision, device.acknowledged) == (1, False)


def put(kind: str, name: str, body: Any) -> Put:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Put(Entry(kind, "default", name, "u1", "d"), msgspec.Raw(raw))


def test_a_device_is_read_with_its_model_its_attributes_and_its_revision() -> None:
    device = {
        "metadata": {
            "resourceVersion": "42",
            "annotations": {"attribute.canopy.dev/serial": "S1", "other": "x", "kubernetes.io/description": "a lamp"},
        },
        "spec": {
            "deviceModelRef": {"name": "m"},
            "properties": [
                {"name": "power", "desired": {"value": "true"}},
                {"name": "extra", "desired": {"value": "1"}},
            ],
        },
    }
    model = {
        "spec": {
            "properties": [
                {"name": "power", "type": "BOOLEAN", "accessMode": "ReadWrite"},
                {"name": "lux", "type": "FLOAT", "accessMode": "ReadOnly", "maximum": "9"},
                {"name": "film", "type": "STREAM"},
            ]
        }
    }
    found, wrong = desired.facts([put("Device", "d1", device), put("DeviceModel", "m", model)])
    assert not wrong
    facts = found[NAME]
    assert (facts.uid, facts.revision) == ("u1", 42)
    assert facts.spec == Spec(
        description="a lamp",
        attributes={"serial": "S1"},
        properties={
            "extra": Property(desired="1"),
            "lux": Property(type="float", read_only=True, maximum="9"),
            "power": Property(type="boolean", desired="true"),
        },
    )


def test_a_device_that_cannot_be_read_is_still_a_device_and_is_named() -> None:
    found, wrong = desired.facts([put("Device", "d1", {"spec": {"properties": 7}}), put("Device", "d2", b"{")])
    assert found.keys() == {NAME, ("default", "d2")}
    assert "spec.properties" in wrong[NAME]


def test_what_is_refused_is_in_the_state_that_goes_up_until_something_else_is_wanted() -> None:
    refused = follow(said(heat="31")).device
    (problem,) = refused.state.problems
    assert (problem.code, problem.property, problem.since) == ("DesiredRefused", "heat", NOW)
    assert "30" in problem.reason and refused.revision == 1 and not refused.acknowledged
    again = adopt(refused, NAME, said(heat="31"), NOW + 5, 65536).device
    assert again is refused
    assert follow(said(heat="21"), device=refused).device.state.problems == []
    assert follow(said(), device=refused).device.state.problems == []
