"""Setting what a device should be: whether a value may be set, and the patch of the Device that sets it. Pure.

The fleet API calls it with what Kubernetes holds.
"""

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

from canopy.contracts.devices import MAX_VALUE_BYTES, TRACE, TRACED, Device, DeviceModel, ModelProperty
from canopy.contracts.wire import encode

MAX_PROPERTIES = 500


class WrongValue(ValueError):
    """A desired value that may not be. `field` is the property, `code` 400, or 404 for one that there is not."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field


def check(desired: Mapping[str, str], device: Device, model: DeviceModel | None) -> None:
    """Raise WrongValue for the first property that may not be set so. Without a model only names can be checked."""
    if not 0 < len(desired) <= MAX_PROPERTIES:
        raise WrongValue("body", f'should be {{"property": "value"}}, with 1 to {MAX_PROPERTIES} properties')
    of_model = {p.name: p for p in model.spec.properties} if model else {}
    names = dict.fromkeys((*(p.name for p in device.spec.properties), *of_model))
    for name, value in desired.items():
        if name not in names:
            raise WrongValue(name, f"{name}: no such property; there are {', '.join(names) or 'none'}")
        if (size := len(value.encode(errors="replace"))) > MAX_VALUE_BYTES:
            raise WrongValue(name, f"{name}: {size} bytes; should be at most {MAX_VALUE_BYTES}")
        if name in of_model:
            _check_value(of_model[name], value)


def _check_value(prop: ModelProperty, value: str) -> None:
    if prop.access_mode != "ReadWrite":
        raise WrongValue(
            prop.name, f"{prop.name}: is ReadOnly in the DeviceModel; only ReadWrite properties can be set"
        )
    right, read = _FORMS.get(prop.type, ("text", str))
    try:
        number = read(value)
    except (ValueError, binascii.Error):
        raise WrongValue(prop.name, f"{prop.name}: {value[:80]!r} should be {right} ({prop.type})") from None
    if isinstance(number, int | float):
        _check_limits(prop, number, value)


def _check_limits(prop: ModelProperty, number: float, value: str) -> None:
    lowest, highest = _limit(prop.minimum), _limit(prop.maximum)
    if (lowest is not None and number < lowest) or (highest is not None and number > highest):
        ends = (
            f"at least {prop.minimum}" if lowest is not None else "",
            f"at most {prop.maximum}" if highest is not None else "",
        )
        raise WrongValue(prop.name, f"{prop.name}: {value[:80]!r} should be {' and '.join(e for e in ends if e)}")


def _limit(text: str) -> float | None:
    """A limit of the model; one that is not a number does not limit."""
    try:
        return float(text)
    except ValueError:
        return None


def _whole(value: str) -> int:
    if not value.isascii() or len(value) > 40 or "_" in value:
        raise ValueError(value)
    return int(value)


def _number(value: str) -> float:
    if "_" in value or not math.isfinite(number := float(value)):
        raise ValueError(value)
    return number


def _boolean(value: str) -> str:
    if value.lower() not in ("true", "false"):
        raise ValueError(value)
    return value


def _bytes(value: str) -> str:
    base64.b64decode(value, validate=True)
    return value


_FORMS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "INT": ("a whole number", _whole),
    "FLOAT": ("a number", _number),
    "DOUBLE": ("a number", _number),
    "BOOLEAN": ("true or false", _boolean),
    "BYTES": ("base64", _bytes),
}


def patch(device: Mapping[str, Any], desired: Mapping[str, str], trace: str = "") -> bytes:
    """The merge patch that sets `desired` in a Device as Kubernetes holds it, all other properties kept as they are.

    It names the resourceVersion that was read: a merge patch replaces the list, so a change in between must refuse it.
    `trace` stands beside a change as annotations, with the generation that it leads to; without a change there is none.
    """
    left = dict(desired)
    listed = [_set(p, left) for p in device.get("spec", {}).get("properties") or []]
    listed += [{"name": name, "desired": {"value": value}} for name, value in left.items()]
    meta = device["metadata"]
    changed = {"resourceVersion": meta["resourceVersion"]}
    if trace and listed != device.get("spec", {}).get("properties"):
        changed["annotations"] = {TRACE: trace, TRACED: str(int(meta.get("generation", 0)) + 1)}
    return encode({"metadata": changed, "spec": {"properties": listed}})


def _set(prop: Mapping[str, Any], left: dict[str, str]) -> dict[str, Any]:
    """`prop` with its new value, which is taken out of `left`."""
    name = prop.get("name", "")
    if name not in left:
        return dict(prop)
    return {**prop, "desired": {**(prop.get("desired") or {}), "value": left.pop(name)}}
