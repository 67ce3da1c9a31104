"""Patches: the examples of the RFCs and what kubectl sends."""

from typing import Any

import pytest

from canopy.kubeserve import patches
from canopy.kubeserve.status import ApiError


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_is_as_in_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert patches.merge(target, patch) == result


@pytest.mark.parametrize(
    ("target", "operation", "result"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": [1]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2]}),
        ({"a": 1}, {"op": "remove", "path": "/a"}, {}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": None}, {"a": None}),
        ({"a": 1}, {"op": "replace", "path": "", "value": {"b": 1}}, {"b": 1}),
        ({"a": {"x": 1}}, {"op": "move", "from": "/a/x", "path": "/y"}, {"a": {}, "y": 1}),
        ({"a": {"x": 1}}, {"op": "copy", "from": "/a", "path": "/b"}, {"a": {"x": 1}, "b": {"x": 1}}),
        ({"a/b": {"~": 1}}, {"op": "replace", "path": "/a~1b/~0", "value": 2}, {"a/b": {"~": 2}}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1}, {"a": 1}),
    ],
)
def test_a_json_patch_is_as_in_rfc_6902(target: Any, operation: Any, result: Any) -> None:
    before = repr(target)
    assert patches.json_patch(target, [operation]) == result
    assert repr(target) == before


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": 2},
        {"op": "remove", "path": "/no"},
        {"op": "replace", "path": "/no/b", "value": 1},
        {"op": "replace", "path": "/l/0", "value": 1},
        {"op": "add", "path": "/no/b", "value": 1},
        {"op": "add", "path": "/l/9", "value": 1},
        {"op": "add", "path": "no-slash", "value": 1},
        {"op": "add", "path": "/a"},
        {"op": "fly", "path": "/a"},
        {"path": "/a"},
        "nothing",
    ],
)
def test_an_operation_that_cannot_be_done_is_refused_with_its_number(operation: Any) -> None:
    with pytest.raises(ApiError, match="operation 0") as raised:
        patches.json_patch({"a": 1, "l": []}, [operation])
    assert raised.value.code == 422


@pytest.mark.parametrize(
    ("operation", "why"),
    [
        ({"op": "replace", "path": "/b/c", "value": 1}, "replace /b/c: there is no 'b'"),
        ({"op": "remove", "path": "/l/1"}, "remove /l/1: no item '1' in a list of 0"),
        ({"op": "add", "path": "/a"}, "add /a: there is no 'value'"),
        ("nothing", "it is no object"),
    ],
)
def test_what_an_operation_lacks_is_said(operation: Any, why: str) -> None:
    with pytest.raises(ApiError) as raised:
        patches.json_patch({"a": {}, "l": []}, [operation])
    assert str(raised.value).endswith(why)


def test_a_field_that_is_replaced_need_not_be_there_as_in_kubernetes() -> None:
    assert patches.json_patch({"a": 1}, [{"op": "replace", "path": "/b", "value": 2}]) == {"a": 1, "b": 2}


def test_a_strategic_patch_merges_conditions_by_type() -> None:
    old = {"conditions": [{"type": "Ready", "status": "False", "reason": "x"}, {"type": "Disk"}], "other": [1]}
    patch = {
        "$setElementOrder/conditions": [{"type": "Ready"}],
        "conditions": [{"type": "Ready", "status": "True"}, {"type": "Disk", "$patch": "delete"}, {"type": "New"}],
        "other": [2],
    }
    assert patches.strategic_merge(old, patch) == {
        "conditions": [{"type": "Ready", "status": "True", "reason": "x"}, {"type": "New"}],
        "other": [2],
    }


def test_a_strategic_patch_knows_its_directives() -> None:
    old = {"finalizers": ["a", "b"], "spec": {"x": 1, "y": 2}, "gone": 1, "data": {"a": 1}}
    patch = {
        "$deleteFromPrimitiveList/finalizers": ["a"],
        "finalizers": ["c"],
        "spec": {"$retainKeys": ["y", "z"], "z": 3},
        "gone": None,
        "data": {"$patch": "replace", "b": 2},
    }
    assert patches.strategic_merge(old, patch) == {
        "finalizers": ["b", "c"],
        "spec": {"y": 2, "z": 3},
        "data": {"b": 2},
    }


def test_a_custom_kind_takes_no_strategic_patch() -> None:
    with pytest.raises(ApiError, match="merge-patch") as raised:
        patches.patched(patches.STRATEGIC, {}, {}, strategic=False)
    assert raised.value.code == 415


def test_a_patch_must_leave_an_object() -> None:
    for media_type, patch in ((patches.MERGE, [1]), (patches.JSON_PATCH, [{"op": "add", "path": "", "value": 1}])):
        with pytest.raises(ApiError, match="object"):
            patches.patched(media_type, {}, patch, strategic=False)
