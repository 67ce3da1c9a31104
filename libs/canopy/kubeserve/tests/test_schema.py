"""Structural schemas: what is filled in, left out and refused."""

from typing import Any

import pytest

from canopy.kubeserve import schema

TEXT = {"type": "string"}


def faults(of: dict[str, Any], value: Any) -> list[tuple[str, str]]:
    return [(c.field, c.reason) for c in schema.faults(of, value)]


@pytest.mark.parametrize(
    ("of", "good", "bad"),
    [
        ({"type": "string"}, "x", 1),
        ({"type": "integer"}, 1, "1"),
        ({"type": "integer"}, 1.0, 1.5),
        ({"type": "integer"}, 0, True),
        ({"type": "number"}, 1.5, "x"),
        ({"type": "boolean"}, True, 1),
        ({"type": "object"}, {}, []),
        ({"type": "array"}, [], {}),
        ({"type": "string", "nullable": True}, None, 1),
        ({"type": "string"}, "", None),
        ({"enum": ["a", 1]}, 1, True),
        ({"type": "integer", "minimum": 2}, 2, 1),
        ({"type": "integer", "minimum": 2, "exclusiveMinimum": True}, 3, 2),
        ({"type": "number", "maximum": 2}, 2, 2.1),
        ({"type": "integer", "format": "int32"}, 2**31 - 1, 2**31),
        ({"type": "integer", "format": "int64"}, -(2**63), 2**63),
        ({"type": "number", "multipleOf": 5}, 10, 11),
        ({"type": "string", "minLength": 1}, "x", ""),
        ({"type": "string", "maxLength": 1}, "x", "xx"),
        ({"type": "string", "pattern": "^a+$"}, "aa", "ab"),
        ({"type": "string", "format": "date-time"}, "2024-01-01T00:00:00.5Z", "yesterday"),
        ({"type": "array", "maxItems": 1}, [1], [1, 2]),
        ({"type": "array", "x-kubernetes-list-type": "set"}, [1, 2], [1, 1]),
        ({"type": "object", "maxProperties": 1}, {"a": 1}, {"a": 1, "b": 1}),
        ({"x-kubernetes-int-or-string": True}, "1", 1.5),
        ({"anyOf": [TEXT, {"type": "integer"}]}, 1, []),
        ({"oneOf": [{"minimum": 1}, {"maximum": 5}]}, 0, 3),
        ({"allOf": [{"minimum": 1}, {"maximum": 5}]}, 3, 6),
        ({"not": {"type": "string"}}, 1, "x"),
    ],
)
def test_a_value_fits_or_is_refused(of: dict[str, Any], good: Any, bad: Any) -> None:
    assert faults(of, good) == []
    assert faults(of, bad) != []


def test_a_fault_names_its_path() -> None:
    item = {"type": "object", "required": ["name"], "properties": {"type": {"enum": ["A"]}}}
    of = {"type": "object", "properties": {"list": {"type": "array", "items": item}}}
    found = faults(of, {"list": [{"name": 1, "type": "B"}, {}]})
    assert found == [("list[0].type", "FieldValueNotSupported"), ("list[1].name", "FieldValueRequired")]


def test_two_items_with_one_key_are_a_duplicate() -> None:
    of = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    assert faults(of, [{"type": "a"}, {"type": "b"}]) == []
    assert faults(of, [{"type": "a"}, {"type": "a"}]) == [("[1]", "FieldValueDuplicate")]


def test_unknown_fields_go_and_are_named() -> None:
    of = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"a": TEXT, "l": {"items": {}}}}}}
    pruned: list[str] = []
    value = {"kind": "K", "metadata": {"x": 1}, "spec": {"a": "1", "b": 2, "l": [{"c": 1}]}, "more": 1}
    assert schema.complete_top(of, value, pruned) == {
        "kind": "K",
        "metadata": {"x": 1},
        "spec": {"a": "1", "l": [{}]},
    }
    assert pruned == ["spec.b", "spec.l[0].c", "more"]


def test_free_objects_keep_everything() -> None:
    for of in ({"x-kubernetes-preserve-unknown-fields": True}, {"additionalProperties": True}):
        assert schema.complete(of, {"a": {"b": 1}}, []) == {"a": {"b": 1}}


def test_a_known_field_inside_a_free_object_is_still_pruned() -> None:
    inner = {"type": "object", "properties": {}}
    of = {"x-kubernetes-preserve-unknown-fields": True, "properties": {"known": inner}}
    assert schema.complete(of, {"known": {"x": 1}, "free": {"x": 1}}, []) == {"known": {}, "free": {"x": 1}}


def test_defaults_are_filled_in_at_every_depth_and_over_null() -> None:
    deep = {"type": "object", "default": {}, "properties": {"n": {"type": "integer", "default": 3}}}
    of = {"properties": {"a": deep, "b": {"type": "string", "default": "x"}}}
    assert schema.complete(of, {"b": None}, []) == {"a": {"n": 3}, "b": "x"}


def test_what_we_do_not_know_is_found_wherever_it_is() -> None:
    of = {"properties": {"a": {"items": {"x-kubernetes-validations": []}}}, "$ref": "x"}
    assert set(schema.unknown_keywords(of)) == {
        "openAPIV3Schema.$ref",
        "openAPIV3Schema.properties[a].items.x-kubernetes-validations",
    }
