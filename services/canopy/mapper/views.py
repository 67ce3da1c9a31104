"""From Device and DeviceModel to what a driver sees. Pure; called by the mapper's shell when the set has changed."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from canopy.contracts.devices import Device, DeviceModel, DeviceProperty, ModelProperty, Visitors
from canopy.mapper.config import BadConfig, Config
from canopy.mapper.schedule import Key
from canopy.mapper.sdk import DeviceView, PropertyView


@dataclass(frozen=True, slots=True)
class Views:
    """The devices of one protocol, and what keeps others of it from being served, to be said to an operator."""

    views: tuple[DeviceView, ...]
    problems: Mapping[Key, str]
    broken: Mapping[Key, str] = field(default_factory=dict)
    """Why devices that say this protocol themselves cannot be served; their views hold no property."""


def views(
    devices: Iterable[Device],
    models: Iterable[DeviceModel],
    protocol: str,
    bug: Callable[[Key, Exception], None] = lambda key, error: None,
) -> Views:
    """The views of those devices that speak `protocol`. `bug` hears of one whose manifest shows a bug of ours."""
    known = {(m.metadata.namespace, m.metadata.name): m for m in models}
    found: list[DeviceView] = []
    problems: dict[Key, str] = {}
    broken: dict[Key, str] = {}
    for device in devices:
        key = (device.metadata.namespace, device.metadata.name)
        try:
            model = _model(device, known)
            if _protocol(device, model).lower() == protocol.lower():
                found.append(view(device, model))
        except Exception as e:
            if not isinstance(e, BadConfig):
                bug(key, e)
            problems[key] = f"{key[0]}/{key[1]} is not served: {e}"
            if device.spec.protocol.protocol_name.lower() == protocol.lower():
                broken[key] = str(e)
                found.append(DeviceView(*key, protocol, uid=device.metadata.uid, digest=f"broken: {e}"))
    return Views(tuple(found), problems, broken)


def view(device: Device, model: DeviceModel) -> DeviceView:
    """One device. Raises BadConfig that names the field of the manifest.

    Its properties are those that the Device lists or for which the model says visitors; all, if the Device lists none.
    What the Device says goes before what the model says.
    """
    config = {**(model.spec.protocol_config_data or {}), **(device.spec.protocol.config_data or {})}
    made = DeviceView(
        device.metadata.namespace,
        device.metadata.name,
        _protocol(device, model),
        tuple(_properties(device, model)),
        Config(config, "protocol.configData"),
        device.metadata.uid,
    )
    return replace(made, digest=_digest(made))


def _model(device: Device, models: Mapping[Key, DeviceModel]) -> DeviceModel:
    name = device.spec.device_model_ref.name if device.spec.device_model_ref else ""
    model = models.get((device.metadata.namespace, name))
    if model is None:
        right = f'there is no DeviceModel "{name}" in {device.metadata.namespace}' if name else "is missing"
        raise BadConfig("spec.deviceModelRef.name", right)
    return model


def _protocol(device: Device, model: DeviceModel) -> str:
    return device.spec.protocol.protocol_name or model.spec.protocol


def _properties(device: Device, model: DeviceModel) -> Iterable[PropertyView]:
    of_model = {p.name: p for p in model.spec.properties}
    of_device = {p.name: p for p in device.spec.properties}
    for name in of_device:
        if name not in of_model:
            known = ", ".join(of_model) or "it has none"
            raise BadConfig("spec.properties.name", f'"{name}" is no property of the DeviceModel: {known}')
    for name, prop in of_model.items():
        if name in of_device or not of_device or prop.visitors is not None:
            yield _property(prop, of_device.get(name, DeviceProperty(name=name)))


def _property(of_model: ModelProperty, of_device: DeviceProperty) -> PropertyView:
    return PropertyView(
        of_model.name,
        of_model.type.lower(),
        of_model.access_mode == "ReadOnly",
        _bound(of_model.minimum, "minimum", of_model.name),
        _bound(of_model.maximum, "maximum", of_model.name),
        Config(
            {**_config(of_model.visitors), **_config(of_device.visitors)},
            "visitors.configData",
            f"property {of_model.name}",
        ),
        of_device.collect_cycle_ms,
    )


def _config(visitors: Visitors | None) -> Mapping[str, Any]:
    return (visitors.config_data if visitors else None) or {}


def _bound(text: str, name: str, prop: str) -> float | None:
    return Config({name: text}, "spec.properties", f"property {prop}").number(name) if text else None


def _digest(made: DeviceView) -> str:
    """Changes with everything of a view but the uid."""
    whole = {
        "config": made.config.data,
        "protocol": made.protocol,
        "properties": [
            [p.name, p.type, p.read_only, p.minimum, p.maximum, p.config.data, p.collect_cycle_ms]
            for p in made.properties
        ],
    }
    return hashlib.blake2b(msgspec.json.encode(whole, order="deterministic"), digest_size=8).hexdigest()
