"""Values as text, the way KubeEdge has them, and whether a desired text fits a property. Pure; called by `core`."""

import base64
import math
import re
from decimal import Decimal

from canopy.contracts.devices import MAX_VALUE_BYTES
from canopy.mapper.sdk import BadValue, PropertyFailed, PropertyView, Value

_INTEGER = re.compile(r"[+-]?\d{1,20}")
_NUMBERS = frozenset({"int", "float", "double"})
_TRUTH = {"true": "true", "false": "false", "1": "true", "0": "false"}


def text(value: Value) -> str:
    """A value as it is reported: true/false, numbers without exponent and without noise (21.3, not 21.299999)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number(value)
    return str(value)


def reported(prop: PropertyView, value: Value) -> str:
    """The text of what a driver read, in the property's type. Raises PropertyFailed where it is not of that type."""
    try:
        found = _canonical(prop, text(int(value) if isinstance(value, bool) and prop.type == "int" else value))
    except BadValue as e:
        raise PropertyFailed(f"the device said {value!r}: {e}") from None
    if len(found.encode()) > MAX_VALUE_BYTES:
        raise PropertyFailed(f"the value is longer than {MAX_VALUE_BYTES} bytes")
    return found


def desired(prop: PropertyView, value: str) -> str:
    """The text to write for a desired value. Raises BadValue that says what would be right."""
    if prop.read_only:
        raise BadValue("the property is ReadOnly")
    found = _canonical(prop, value)
    if prop.type in _NUMBERS:
        _check_range(prop, float(found))
    return found


def same(prop: PropertyView, a: str, b: str) -> bool:
    """Whether two texts are one value of the property: 50 and 50.0 are, of a float."""
    if a == b:
        return True
    try:
        return _canonical(prop, a) == _canonical(prop, b)
    except BadValue:
        return False


def as_bytes(value: str) -> bytes:
    """The bytes that a `bytes` property's text stands for (base64). Raises BadValue."""
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise BadValue(f'"{value}" is not base64') from None


def _canonical(prop: PropertyView, value: str) -> str:
    if prop.type == "boolean":
        return _boolean(value)
    if prop.type == "int":
        return _integer(value)
    if prop.type in ("float", "double"):
        return _number(_float(value))
    return value


def _boolean(value: str) -> str:
    try:
        return _TRUTH[value.strip().lower()]
    except KeyError:
        raise BadValue(f'"{value}" is not true or false') from None


def _integer(value: str) -> str:
    if _INTEGER.fullmatch(value.strip()):
        return str(int(value))
    raise BadValue(f'"{value}" is not a whole number')


def _float(value: str) -> float:
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if math.isfinite(found):
        return found
    raise BadValue(f'"{value}" is not a number')


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    plain = format(Decimal(format(value + 0.0, ".15g")), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _check_range(prop: PropertyView, value: float) -> None:
    if prop.minimum is not None and value < prop.minimum:
        raise BadValue(f"{_number(value)} is below the minimum {_number(prop.minimum)}")
    if prop.maximum is not None and value > prop.maximum:
        raise BadValue(f"{_number(value)} is above the maximum {_number(prop.maximum)}")
