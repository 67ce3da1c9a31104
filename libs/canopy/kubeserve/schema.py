"""Structural schemas (OpenAPI v3, as CRDs hold them): defaults, pruning, validation. Pure; the verbs call it.

`complete` returns a new value with defaults filled in and unknown fields left out; `faults` says what breaks the schema
in Kubernetes' words. Rules in CEL and `$ref` are not known: `unknown_keywords` finds them when a CRD comes.
"""

import math
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec

from canopy.kubeserve.status import Cause, Json

_KEYWORDS = frozenset(
    (
        *("type", "format", "title", "description", "default", "enum", "nullable", "example", "externalDocs"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
        *("required", "properties", "additionalProperties", "items", "allOf", "anyOf", "oneOf", "not"),
        *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type"),
        *("x-kubernetes-int-or-string", "x-kubernetes-embedded-resource", "x-kubernetes-preserve-unknown-fields"),
    )
)
_TOP = frozenset({"apiVersion", "kind", "metadata"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_INT_LIMITS = {"int32": (1 << 31), "int64": (1 << 63)}
DEPTH_LIMIT = 64


def unknown_keywords(schema: Json, at: str = "openAPIV3Schema") -> Iterator[str]:
    """Paths of what this module does not know; a CRD that uses it is refused rather than half obeyed."""
    yield from (f"{at}.{k}" for k in schema if k not in _KEYWORDS)
    for where, inner in _inner_schemas(schema):
        yield from unknown_keywords(inner, f"{at}.{where}")


def _inner_schemas(schema: Json) -> Iterator[tuple[str, Json]]:
    yield from ((f"properties[{k}]", v) for k, v in schema.get("properties", {}).items())
    for word in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(word), dict):
            yield word, schema[word]
    for word in ("allOf", "anyOf", "oneOf"):
        yield from ((f"{word}[{i}]", v) for i, v in enumerate(schema.get(word, ())))


# --- defaults and pruning ---------------------------------------------------------------------------------------------
def complete(schema: Json, value: Any, pruned: list[str], at: str = "", keep: frozenset[str] = frozenset()) -> Any:
    """`value` with defaults and without unknown fields; the paths of these are added to `pruned`."""
    if isinstance(value, dict):
        return _complete_object(schema, value, pruned, at, keep)
    if isinstance(value, list) and "items" in schema:
        return [complete(schema["items"], v, pruned, f"{at}[{i}]") for i, v in enumerate(value)]
    return value


def complete_top(schema: Json, value: Json, pruned: list[str]) -> Json:
    """The same for a whole object: apiVersion, kind and metadata are Kubernetes' own and stay."""
    done: Json = complete(schema, value, pruned, keep=_TOP)
    return done


def _complete_object(schema: Json, value: Json, pruned: list[str], at: str, keep: frozenset[str]) -> Json:
    if schema.get("x-kubernetes-embedded-resource"):
        keep = _TOP
    properties: Json = schema.get("properties", {})
    extra = schema.get("additionalProperties")
    done: Json = {}
    for key, inner in value.items():
        where = f"{at}.{key}" if at else key
        if key in keep:
            done[key] = inner
        elif key in properties:
            if inner is not None or properties[key].get("nullable"):
                done[key] = complete(properties[key], inner, pruned, where)
        elif isinstance(extra, dict):
            if inner is not None or extra.get("nullable"):
                done[key] = complete(extra, inner, pruned, where)
        elif extra is True or schema.get("x-kubernetes-preserve-unknown-fields"):
            done[key] = inner
        else:
            pruned.append(where)
    _fill(properties, done, pruned, at)
    return done


def _fill(properties: Json, done: Json, pruned: list[str], at: str) -> None:
    for key, schema in properties.items():
        if key not in done and "default" in schema:
            done[key] = complete(schema, schema["default"], pruned, f"{at}.{key}")


# --- validation -------------------------------------------------------------------------------------------------------
def faults(schema: Json, value: Any, at: str = "", depth: int = 0) -> Iterator[Cause]:
    """What of `value` breaks `schema`, each with its path (`spec.properties[0].type`)."""
    if depth > DEPTH_LIMIT:
        yield Cause("FieldValueInvalid", f"Invalid value: nested deeper than {DEPTH_LIMIT}", at)
        return
    if value is None and schema.get("nullable"):
        return
    wrong = _wrong_type(schema, value, at)
    if wrong:
        yield Cause("FieldValueTypeInvalid", wrong, at or "<root>")
        return
    yield from (
        Cause("FieldValueInvalid", f"Invalid value: {_show(value)}: {m}", at) for m in _value_faults(schema, value)
    )
    if "enum" in schema and not any(_same(value, e) for e in schema["enum"]):
        allowed = ", ".join(_show(e) for e in schema["enum"])
        yield Cause("FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {allowed}", at)
    yield from _composed_faults(schema, value, at, depth)
    if isinstance(value, dict):
        yield from _object_faults(schema, value, at, depth)
    elif isinstance(value, list):
        yield from _array_faults(schema, value, at, depth)


def _wrong_type(schema: Json, value: Any, at: str) -> str | None:
    if schema.get("x-kubernetes-int-or-string"):
        fits = isinstance(value, int | str) and not isinstance(value, bool)
        return None if fits else f'Invalid value: "{_kind(value)}": must be an integer or a string'
    wanted = schema.get("type")
    if wanted is None or _is(value, wanted):
        return None
    where = f"{at} in body " if at else ""
    return f'Invalid value: "{_kind(value)}": {where}must be of type {wanted}: "{_kind(value)}"'


def _is(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return next(name for name in ("boolean", "integer", "number", "string", "array", "object") if _is(value, name))


def _same(a: Any, b: Any) -> bool:
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def _show(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _value_faults(schema: Json, value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _text_faults(schema, value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_faults(schema, value)
    elif isinstance(value, list):
        yield from _size_faults(schema, len(value), "Items", "items")
        if schema.get("uniqueItems") or schema.get("x-kubernetes-list-type") == "set":
            yield from ("items must be unique" for _ in [0] if _repeated(value))
    elif isinstance(value, dict):
        yield from _size_faults(schema, len(value), "Properties", "properties")


def _text_faults(schema: Json, value: str) -> Iterator[str]:
    yield from _size_faults(schema, len(value), "Length", "characters")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"must match the pattern {schema['pattern']}"
    if schema.get("format") == "date-time" and not _is_time(value):
        yield "must be of type date-time (RFC 3339)"


def _is_time(value: str) -> bool:
    try:
        return "T" in value.upper() and datetime.fromisoformat(value.upper()).tzinfo is not None
    except ValueError:
        return False


def _number_faults(schema: Json, value: float) -> Iterator[str]:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    if value < low or (schema.get("exclusiveMinimum") and value == low):
        yield f"must be greater than {'' if schema.get('exclusiveMinimum') else 'or equal to '}{low}"
    if value > high or (schema.get("exclusiveMaximum") and value == high):
        yield f"must be less than {'' if schema.get('exclusiveMaximum') else 'or equal to '}{high}"
    if "multipleOf" in schema and value % schema["multipleOf"]:
        yield f"must be a multiple of {schema['multipleOf']}"
    limit = _INT_LIMITS.get(schema.get("format", ""))
    if limit and not -limit <= value < limit:
        yield f"must be an {schema['format']}"


def _size_faults(schema: Json, size: int, word: str, unit: str) -> Iterator[str]:
    least, most = schema.get(f"min{word}", 0), schema.get(f"max{word}", math.inf)
    if size < least:
        yield f"must have at least {least} {unit}"
    if size > most:
        yield f"must have at most {most} {unit}"


def _repeated(values: list[Any]) -> bool:
    return len({_canonical(v) for v in values}) < len(values)


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _composed_faults(schema: Json, value: Any, at: str, depth: int) -> Iterator[Cause]:
    def fits(inner: Json) -> bool:
        return next(faults(inner, value, at, depth + 1), None) is None

    for inner in schema.get("allOf", ()):
        yield from faults(inner, value, at, depth + 1)
    if "anyOf" in schema and not any(fits(s) for s in schema["anyOf"]):
        yield Cause("FieldValueInvalid", "Invalid value: must validate at least one schema (anyOf)", at)
    if "oneOf" in schema and sum(fits(s) for s in schema["oneOf"]) != 1:
        yield Cause("FieldValueInvalid", "Invalid value: must validate one and only one schema (oneOf)", at)
    if "not" in schema and fits(schema["not"]):
        yield Cause("FieldValueInvalid", "Invalid value: must not validate the schema (not)", at)


def _object_faults(schema: Json, value: Json, at: str, depth: int) -> Iterator[Cause]:
    for key in schema.get("required", ()):
        if key not in value:
            yield Cause("FieldValueRequired", "Required value", f"{at}.{key}" if at else key)
    properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
    for key, inner in value.items():
        of = properties.get(key, extra if isinstance(extra, dict) else None)
        if of is not None:
            yield from faults(of, inner, f"{at}.{key}" if at else key, depth + 1)


def _array_faults(schema: Json, value: list[Any], at: str, depth: int) -> Iterator[Cause]:
    for i, inner in enumerate(value):
        yield from faults(schema.get("items", {}), inner, f"{at}[{i}]", depth + 1)
    if schema.get("x-kubernetes-list-type") == "map":
        yield from _repeated_keys(schema["x-kubernetes-list-map-keys"], value, at)


def _repeated_keys(names: list[str], items: list[Any], at: str) -> Iterator[Cause]:
    seen: set[bytes] = set()
    for i, item in enumerate(items):
        key = {n: item[n] for n in names if n in item} if isinstance(item, dict) else {}
        if _canonical(key) in seen:
            yield Cause("FieldValueDuplicate", f"Duplicate value: {_show(key)}", f"{at}[{i}]")
        seen.add(_canonical(key))
