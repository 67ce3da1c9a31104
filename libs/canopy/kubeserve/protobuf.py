"""The three kinds that `kubectl create` sends in Kubernetes' protobuf form: Namespace, ConfigMap, Secret. Pure.

`requests` calls `decode`. Tables of field numbers take the place of generated code; what they do not hold is refused,
so that nothing is lost unseen. Empty fields, which Kubernetes always writes, are left out.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from canopy.kubeserve.status import Json, bad_request, unsupported_media

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Wire: TypeAlias = int | bytes
Read: TypeAlias = Callable[[Wire], Any]
Fields: TypeAlias = Mapping[int, tuple[str, Read]]


def decode(content: bytes) -> Json:
    """The object as it would be in JSON. Raises ApiError for other kinds, and for what is no such message."""
    try:
        return _decode(content)
    except (IndexError, ValueError, TypeError, AttributeError) as error:
        raise bad_request(f"the body is not protobuf as Kubernetes writes it: {error}") from error


def _decode(content: bytes) -> Json:
    if not content.startswith(_MAGIC):
        raise ValueError("it does not begin with k8s")
    parts = dict(_fields(content[len(_MAGIC) :]))
    head = _object(_TYPE, parts.get(1, b""))
    fields = _KINDS.get((head.get("apiVersion"), head.get("kind")))
    if fields is None:
        raise unsupported_media(f"kubeserve reads {head.get('kind')} as application/json, not as {MEDIA_TYPE}")
    return head | _object(fields, parts.get(2, b""))


def _fields(data: bytes) -> Iterator[tuple[int, Wire]]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = (8 if wire == _FIXED64 else 4, at) if wire in (_FIXED64, _FIXED32) else _varint(data, at)
        if wire not in (_FIXED64, _FIXED32, _BYTES) or at + size > len(data):
            raise ValueError(f"field {number} does not end")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = data[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return value, at
    raise ValueError("a number does not end")


def _object(fields: Fields, data: Wire) -> Json:
    """A message as an object; maps and lists are put together from their pieces."""
    found: Json = {}
    for number, wire in _fields(_bytes(data)):
        if number not in fields:
            raise ValueError(f"field {number} is not known here")
        name, read = fields[number]
        value = read(wire)
        if isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] |= value
        elif isinstance(value, list):
            found.setdefault(name, []).extend(value)
        elif value not in ("", None, {}):
            found[name] = value
    return found


def _bytes(wire: Wire) -> bytes:
    if isinstance(wire, int):
        raise TypeError("a number where a text should be")
    return wire


def _text(wire: Wire) -> str:
    return _bytes(wire).decode()


def _encoded(wire: Wire) -> str:
    return base64.b64encode(_bytes(wire)).decode()


def _texts(wire: Wire) -> list[str]:
    return [_text(wire)]


def _flag(wire: Wire) -> bool:
    return bool(wire)


def _nothing(wire: Wire) -> None:
    """What a new object does not bring along, or what is not kept here."""


def _map(read: Read) -> Read:
    def entry(wire: Wire) -> Json:
        parts = dict(_fields(_bytes(wire)))
        return {_text(parts.get(1, b"")): read(parts.get(2, b""))}

    return entry


def _message(fields: Fields) -> Read:
    return lambda wire: _object(fields, wire)


_TYPE: Fields = {1: ("apiVersion", _text), 2: ("kind", _text)}
_META: Fields = {
    **dict.fromkeys((4, 5, 6, 7, 8, 9, 10, 17), ("", _nothing)),
    1: ("name", _text),
    2: ("generateName", _text),
    3: ("namespace", _text),
    11: ("labels", _map(_text)),
    12: ("annotations", _map(_text)),
    14: ("finalizers", _texts),
}
_KINDS: Mapping[tuple[Any, Any], Fields] = {
    ("v1", "Namespace"): {1: ("metadata", _message(_META)), 2: ("", _nothing), 3: ("", _nothing)},
    ("v1", "ConfigMap"): {
        1: ("metadata", _message(_META)),
        2: ("data", _map(_text)),
        3: ("binaryData", _map(_encoded)),
        4: ("immutable", _flag),
    },
    ("v1", "Secret"): {
        1: ("metadata", _message(_META)),
        2: ("data", _map(_encoded)),
        3: ("type", _text),
        4: ("stringData", _map(_text)),
        5: ("immutable", _flag),
    },
}
