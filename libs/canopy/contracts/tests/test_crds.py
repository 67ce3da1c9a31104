"""The generated CRDs, and the manifests of examples/ against them."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from canopy.contracts.crds import crds
from canopy.contracts.devices import Device, DeviceModel, DeviceStatus

EXAMPLES = Path(__file__).parents[4] / "examples"


def crd(kind: str) -> dict[str, Any]:
    return next(c for c in crds() if c["spec"]["names"]["kind"] == kind)


def schema(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def at(of: dict[str, Any], path: str) -> dict[str, Any]:
    for step in path.split("."):
        of = of["items"] if step == "[]" else of["properties"][step]
    return of


def test_each_kind_is_served_under_its_plural() -> None:
    assert [c["metadata"]["name"] for c in crds()] == [
        "devicemodels.devices.kubeedge.io",
        "devices.devices.kubeedge.io",
        "devicestatuses.devices.kubeedge.io",
    ]


def test_type_and_access_mode_are_enums() -> None:
    properties = at(schema("DeviceModel"), "spec.properties.[]")
    types = {"INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"}
    assert set(at(properties, "type")["enum"]) == types
    assert set(at(properties, "accessMode")["enum"]) == {"ReadWrite", "ReadOnly"}


@pytest.mark.parametrize(
    "path",
    ["spec.protocol.configData", "spec.properties.[].visitors.configData", "spec.properties.[].pushMethod"],
)
def test_free_objects_keep_unknown_fields(path: str) -> None:
    found = at(schema("Device"), path)
    assert found["type"] == "object" and found["x-kubernetes-preserve-unknown-fields"]


def test_status_is_a_subresource_where_someone_else_writes_it() -> None:
    with_status = [c["spec"]["names"]["kind"] for c in crds() if "subresources" in c["spec"]["versions"][0]]
    assert with_status == ["Device", "DeviceStatus"]


def test_every_property_at_the_top_of_a_spec_can_be_explained() -> None:
    spec = at(schema("Device"), "spec")
    assert spec["description"] and at(spec, "nodeName")["description"]
    assert "default" not in str(spec)  # a default would make every KubeEdge manifest differ from what is stored


def test_an_object_is_written_with_its_kind() -> None:
    for shape in (Device, DeviceModel, DeviceStatus):
        assert msgspec.json.decode(msgspec.json.encode(shape()))["kind"] == shape.__name__


def test_the_examples_are_read_as_they_are_written() -> None:
    model = msgspec.convert(yaml.safe_load((EXAMPLES / "light-model.yaml").read_text()), DeviceModel)
    device = msgspec.convert(yaml.safe_load((EXAMPLES / "light-device.yaml").read_text()), Device)
    assert {p.name for p in model.spec.properties} == {p.name for p in device.spec.properties}
    assert device.spec.device_model_ref and device.spec.device_model_ref.name == model.metadata.name
    assert msgspec.json.decode(msgspec.json.encode(device)) == yaml.safe_load(
        (EXAMPLES / "light-device.yaml").read_text()
    )


def test_a_known_field_of_the_wrong_type_is_refused_with_its_path() -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\$\.spec\.nodeName"):
        msgspec.json.decode(b'{"spec":{"nodeName":5}}', type=Device)


def test_unknown_fields_are_passed_over() -> None:
    assert msgspec.json.decode(b'{"spec":{"later":5},"later":[]}', type=Device).spec.node_name == ""
