"""What a key, a value and a bound may be. Pure; core and desired ask it before anything is taken."""

import math
import re
from collections.abc import Callable

import msgspec

STRING = "string"
NUMBERS = frozenset({"int", "integer", "float", "double"})
FROM_MODEL = {
    "INT": "int",
    "FLOAT": "float",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "STRING": "string",
    "BYTES": "bytes",
}
"""A DeviceModel's type as a twin's. STREAM is missing: it is no twin."""
KEY_RULE = "1 to 128 characters of A-Z a-z 0-9 - _ . , : / @ #"

_KEY = re.compile(r"[A-Za-z0-9\-_.,:/@#]{1,128}")
_INT = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def is_key(key: str) -> bool:
    return _KEY.fullmatch(key) is not None


def fault(type_name: str, value: str) -> str:
    """Why `value` is none of that type, in KubeEdge's words; nothing if it is one."""
    check = _CHECKS.get(type_name)
    if check is None:
        return "the value type is not allowed"
    return "" if check(value) else _FAULTS[type_name]


def agrees(type_name: str, one: str, other: str) -> bool:
    """True if two values mean the same: as text, or as numbers (`5` and `5.0`)."""
    if one == other:
        return True
    return type_name in NUMBERS and _same_number(one, other)


def beyond(value: str, minimum: str, maximum: str) -> str:
    """Why a number is outside its bounds (each may be empty); nothing if it is inside, or no number."""
    number, low, high = _number(value), _number(minimum), _number(maximum)
    if number is None or (low is None and high is None):
        return ""
    if math.isnan(number) or (low is not None and number < low) or (high is not None and number > high):
        return f"the value must be between {minimum or 'any'} and {maximum or 'any'}"
    return ""


def _is_int(value: str) -> bool:
    return _INT.fullmatch(value) is not None and _LOWEST <= int(value) <= _HIGHEST


def _is_float(value: str) -> bool:
    return _FLOAT.fullmatch(value) is not None


def _is_json(value: str) -> bool:
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return True


def _same_number(one: str, other: str) -> bool:
    if _is_int(one) and _is_int(other):
        return int(one) == int(other)
    return _is_float(one) and _is_float(other) and float(one) == float(other)


def _number(text: str) -> float | None:
    return float(text) if _is_float(text) else None


_CHECKS: dict[str, Callable[[str], bool]] = {
    "": lambda _: True,
    STRING: lambda _: True,
    "bytes": lambda _: True,
    "int": _is_int,
    "integer": _is_int,
    "float": _is_float,
    "double": _is_float,
    "boolean": lambda value: value in ("true", "false"),
    "json": _is_json,
}
_FAULTS = {
    "int": "the value is not int or integer",
    "integer": "the value is not int or integer",
    "float": "the value is not float",
    "double": "the value is not double",
    "boolean": "the bool value must be true or false",
    "json": "the value is not json",
}
TYPES = tuple(sorted(t for t in _CHECKS if t))
