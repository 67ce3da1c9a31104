"""From manifests to views."""

from pathlib import Path

import msgspec
import pytest
import yaml

from canopy.contracts.devices import Device, DeviceModel
from canopy.mapper.drivers.modbus_config import Table, check
from canopy.mapper.sdk import DeviceView
from canopy.mapper.views import Views, views

MODEL = """
metadata: {name: lamp-model, namespace: default}
spec:
  protocol: modbus
  protocolConfigData: {slaveID: "1"}
  properties:
  - {name: switch, type: BOOLEAN, accessMode: ReadWrite}
  - {name: brightness, type: INT, accessMode: ReadWrite, minimum: "0", maximum: "100"}
  - {name: power, type: FLOAT, accessMode: ReadOnly, visitors: {configData: {register: InputRegister, offset: 0}}}
  - {name: unused, type: FLOAT}
"""
DEVICE = """
metadata: {name: lamp, namespace: default, uid: u1}
spec:
  deviceModelRef: {name: lamp-model}
  protocol: {protocolName: Modbus, configData: {ip: 10.0.0.1, port: 502}}
  properties:
  - {name: switch, collectCycle: 500, visitors: {configData: {register: CoilRegister, offset: "0"}}}
  - {name: brightness, desired: {value: "7"}}
"""


def made(device: str = DEVICE, model: str = MODEL) -> Views:
    return views(
        [msgspec.convert(yaml.safe_load(device), Device)],
        [msgspec.convert(yaml.safe_load(model), DeviceModel)],
        "modbus",
    )


def one(device: str = DEVICE, model: str = MODEL) -> DeviceView:
    (view,) = made(device, model).views
    return view


def test_a_view_says_what_device_and_model_say_together() -> None:
    view = one()
    assert (view.key, view.uid, view.protocol) == (("default", "lamp"), "u1", "Modbus")
    assert dict(view.config) == {"slaveID": "1", "ip": "10.0.0.1", "port": 502}
    assert [p.name for p in view.properties] == ["switch", "brightness", "power"]
    switch, brightness, power = view.properties
    assert (switch.type, switch.read_only, switch.collect_cycle_ms) == ("boolean", False, 500)
    assert (brightness.minimum, brightness.maximum, brightness.collect_cycle_ms) == (0, 100, 1000)
    assert (power.read_only, power.config.text("register")) == (True, "InputRegister")


@pytest.mark.parametrize(
    ("said", "ms"), [(0, 1000), (200, 200), (86_400_000, 86_400_000), (10_000_000_000, 10_000), (100_000_000, 100)]
)
def test_a_cycle_in_nanoseconds_as_in_the_samples_of_kubeedge_is_understood(said: int, ms: int) -> None:
    view = one(DEVICE.replace("collectCycle: 500", f"collectCycle: {said}"))
    assert view.properties[0].collect_cycle_ms == ms


def test_a_device_that_lists_no_properties_has_all_of_its_model() -> None:
    device = DEVICE[: DEVICE.index("  properties")]
    assert [p.name for p in one(device).properties] == ["switch", "brightness", "power", "unused"]


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        ("10.0.0.1", "10.0.0.2", True),
        ("500", "600", True),
        ('offset: "0"', "offset: 3", True),
        ('value: "7"', 'value: "8"', False),
        ("uid: u1", "uid: u1, resourceVersion: '9'", False),
    ],
)
def test_the_digest_changes_with_what_matters_to_a_driver(old: str, new: str, changes: bool) -> None:
    assert old in DEVICE
    assert (one().digest != one(DEVICE.replace(old, new)).digest) is changes


def test_devices_of_another_protocol_are_left_out() -> None:
    assert made(DEVICE.replace("Modbus", "opcua")) == Views((), {})


def test_the_light_of_the_examples_is_right_for_the_modbus_driver() -> None:
    examples = Path(__file__).parents[4] / "examples"
    view = one((examples / "light-device.yaml").read_text(), (examples / "light-model.yaml").read_text())
    found, points = check(view)
    assert found.slave == 1
    assert {name: (p.table, p.layout.scale) for name, p in points.items()} == {
        "switch": (Table.COIL, 1),
        "brightness": (Table.HOLDING, 1),
        "power": (Table.INPUT, 0.1),
    }


@pytest.mark.parametrize(
    ("device", "model", "text"),
    [
        (
            DEVICE.replace("lamp-model", "other"),
            MODEL,
            'spec.deviceModelRef.name: there is no DeviceModel "other" in default',
        ),
        (DEVICE.replace("{name: lamp-model}", "{}"), MODEL, "spec.deviceModelRef.name: is missing"),
        (
            DEVICE.replace("name: brightness", "name: dim"),
            MODEL,
            'spec.properties.name: "dim" is no property of the DeviceModel: switch, brightness, power, unused',
        ),
        (
            DEVICE,
            MODEL.replace('"100"', '"much"'),
            'spec.properties.maximum of property brightness: "much" is not a number',
        ),
    ],
)
def test_a_device_that_cannot_be_served_is_said_with_the_field(device: str, model: str, text: str) -> None:
    found = made(device, model)
    key = ("default", "lamp")
    assert found.problems == {key: f"default/lamp is not served: {text}"} and found.broken == {key: text}
    assert [(v.key, v.uid, v.properties) for v in found.views] == [(key, "u1", ())]


def test_what_is_wrong_with_a_device_of_another_protocol_is_not_this_mappers_to_say() -> None:
    found = made(DEVICE.replace("Modbus", "opcua"), MODEL.replace('"100"', '"much"'))
    assert found.broken == {} and found.views == ()


def test_a_device_whose_manifest_shows_a_bug_is_not_served_and_the_others_are() -> None:
    model = msgspec.convert(yaml.safe_load(MODEL), DeviceModel)
    good, bad = (msgspec.convert(yaml.safe_load(DEVICE.replace("name: lamp,", f"name: {n},")), Device) for n in "ab")
    bad = msgspec.structs.replace(bad, spec=msgspec.structs.replace(bad.spec, properties=None))
    bugs: list[tuple[object, Exception]] = []
    found = views([bad, good], [model], "modbus", lambda key, error: bugs.append((key, error)))
    assert [v.name for v in found.views if v.properties] == ["a"] and ("default", "b") in found.problems
    assert [(key, type(error)) for key, error in bugs] == [(("default", "b"), TypeError)]
