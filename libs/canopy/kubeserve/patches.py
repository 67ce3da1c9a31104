"""Patches: JSON merge patch (RFC 7386), JSON patch (RFC 6902), and strategic merge patch. Pure; the verbs call it.

Strategic merge patch, which kubectl sends for core kinds, is treated as a merge patch in which the lists named in
`MERGE_KEYS` are merged item by item (conditions by `type`, ...); `$patch: delete|replace`, `$retainKeys`,
`$setElementOrder` (passed over: merged items keep their order) and `$deleteFromPrimitiveList` are known. Every other
list is replaced as a whole.
"""

import copy
from typing import Any

from canopy.kubeserve.status import ApiError, Json, bad_request, unsupported_media

MERGE_KEYS = {"conditions": "type", "addresses": "type", "taints": "key", "ownerReferences": "uid"}
_MERGED_WORDS = frozenset({"finalizers", "podCIDRs"})
OPERATION_LIMIT = 10_000
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


def patched(media_type: str, target: Json, patch: Any, strategic: bool) -> Json:
    """`target` after the patch; `strategic` says whether the kind is one that takes strategic merge patches."""
    if media_type == JSON_PATCH:
        return _object(json_patch(target, patch))
    if media_type == MERGE:
        return _object(merge(target, patch))
    if media_type == STRATEGIC and strategic:
        return _object(strategic_merge(target, _object(patch)))
    known = f"{MERGE}, {JSON_PATCH}" + (f", {STRATEGIC}" if strategic else "")
    raise unsupported_media(f"kubeserve takes patches of this kind as {known}, not as {media_type or 'nothing'}")


def _object(value: Any) -> Json:
    if not isinstance(value, dict):
        raise bad_request("the patch, and what comes of it, must be an object")
    return value


# --- merge ------------------------------------------------------------------------------------------------------------
def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


# --- strategic merge --------------------------------------------------------------------------------------------------
def strategic_merge(target: Json, patch: Json) -> Json:
    """See the module's text."""
    if patch.get("$patch") == "replace":
        return {k: v for k, v in patch.items() if k != "$patch"}
    merged = dict(target)
    if "$retainKeys" in patch:
        merged = {k: v for k, v in merged.items() if k in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            name = key.partition("/")[2]
            merged[name] = [v for v in merged.get(name, []) if v not in value]
        elif not key.startswith("$"):
            _merge_field(merged, key, value)
    return merged


def _merge_field(merged: Json, key: str, value: Any) -> None:
    old = merged.get(key)
    if value is None:
        merged.pop(key, None)
    elif isinstance(value, dict):
        merged[key] = strategic_merge(old if isinstance(old, dict) else {}, value)
    elif isinstance(value, list) and key in MERGE_KEYS:
        merged[key] = _merge_items(old if isinstance(old, list) else [], value, MERGE_KEYS[key])
    elif isinstance(value, list) and key in _MERGED_WORDS:
        merged[key] = list(dict.fromkeys([*(old or []), *value]))
    else:
        merged[key] = value


def _merge_items(old: list[Json], patch: list[Json], by: str) -> list[Json]:
    if any(item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if "$patch" not in item]
    items = {item.get(by): item for item in old}
    for change in patch:
        if change.get("$patch") == "delete":
            items.pop(change.get(by), None)
        else:
            items[change.get(by)] = strategic_merge(items.get(change.get(by), {}), change)
    return list(items.values())


# --- JSON patch -------------------------------------------------------------------------------------------------------
def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. An operation that cannot be done, a failed test too, is 422 with its number."""
    if not isinstance(operations, list) or len(operations) > OPERATION_LIMIT:
        raise bad_request(f"a JSON patch must be a list of at most {OPERATION_LIMIT} operations")
    document = {"": copy.deepcopy(target)}
    for number, operation in enumerate(operations):
        try:
            _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            text = f"operation {number} of the JSON patch cannot be done: {_why(operation, error)}"
            raise ApiError(422, "Invalid", text) from error
    return document[""]


def _why(operation: Any, error: Exception) -> str:
    if not isinstance(operation, dict):
        return "it is no object"
    said = " ".join(str(operation[word]) for word in ("op", "path") if word in operation)
    return f"{said}: there is no {error}" if isinstance(error, KeyError) else f"{said}: {error}"


def _operate(document: Json, operation: Json) -> None:
    path, word = _pointer(operation["path"]), operation["op"]
    match word:
        case "add":
            _add(document, path, operation["value"])
        case "remove":
            _remove(document, path)
        case "replace":
            _replace(document, path, operation["value"])
        case "move":
            _add(document, path, _remove(document, _pointer(operation["from"])))
        case "copy":
            _add(document, path, copy.deepcopy(_at(document, _pointer(operation["from"]))))
        case "test":
            if _at(document, path) != operation["value"]:
                raise ValueError(f"the value at {operation['path']} is another one")
        case _:
            raise ValueError(f"unknown op {word!r}")


def _pointer(text: str) -> list[str]:
    """Tokens from the wrapping `{"": document}` on, so that the whole document has a parent too."""
    if text and not text.startswith("/"):
        raise ValueError(f"path {text!r} must begin with '/'")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")]


def _at(document: Any, path: list[str]) -> Any:
    for token in path:
        document = document[_index(document, token)] if isinstance(document, list) else document[token]
    return document


def _index(items: list[Any], token: str) -> int:
    if not token.isdecimal() or int(token) >= len(items):
        raise IndexError(f"no item {token!r} in a list of {len(items)}")
    return int(token)


def _add(document: Any, path: list[str], value: Any) -> None:
    parent, token = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if token in ("-", str(len(parent))) else _index(parent, token), value)
    elif isinstance(parent, dict):
        parent[token] = value
    else:
        raise TypeError(f"nothing can be added at {'/'.join(path)}")


def _replace(document: Any, path: list[str], value: Any) -> None:
    """As Kubernetes does it: a field of an object need not be there before."""
    if isinstance(_at(document, path[:-1]), list):
        _remove(document, path)
    _add(document, path, value)


def _remove(document: Any, path: list[str]) -> Any:
    parent, token = _at(document, path[:-1]), path[-1]
    return parent.pop(_index(parent, token)) if isinstance(parent, list) else parent.pop(token)
