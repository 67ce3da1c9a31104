"""Bodies as kubectl 1.32 sends them, and such as nobody should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.kubeserve import protobuf
from canopy.kubeserve.status import ApiError

NAMESPACE = bytes.fromhex(
    "6b3873000a0f0a02763112094e616d657370616365121b0a130a03666f6f12001a0022002a0032003800420012001a020a001a002200"
)
"""As `kubectl create namespace foo` sends it."""


def message(*fields: tuple[int, bytes]) -> bytes:
    """Fields of texts and messages, each shorter than 128 bytes."""
    return b"".join(bytes([number << 3 | 2, len(data)]) + data for number, data in fields)


def body(kind: bytes, *fields: tuple[int, bytes]) -> bytes:
    head = message((1, b"v1"), (2, kind))
    return b"k8s\0" + message((1, head), (2, message(*fields)))


def test_a_namespace_of_kubectl_is_read() -> None:
    assert protobuf.decode(NAMESPACE) == {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "foo"}}


def test_maps_lists_bytes_and_flags_are_read() -> None:
    labels = (11, message((1, b"a"), (2, b"b"))), (11, message((1, b"c"), (2, b"")))
    meta = message((1, b"s"), *labels, (14, b"one"), (14, b"two"))
    found = protobuf.decode(body(b"Secret", (1, meta), (2, message((1, b"k"), (2, b"\xff"))), (3, b"Opaque")))
    assert found["metadata"] == {"name": "s", "labels": {"a": "b", "c": ""}, "finalizers": ["one", "two"]}
    assert (found["data"], found["type"]) == ({"k": "/w=="}, "Opaque")
    assert protobuf.decode(body(b"ConfigMap") + b"")["kind"] == "ConfigMap"


def test_another_kind_is_asked_for_in_json() -> None:
    with pytest.raises(ApiError, match="reads Pod as application/json") as raised:
        protobuf.decode(body(b"Pod"))
    assert raised.value.code == 415


def test_a_field_that_would_be_lost_is_refused() -> None:
    with pytest.raises(ApiError, match="field 9 is not known"):
        protobuf.decode(body(b"Namespace", (9, b"x")))


@given(st.binary(max_size=60), st.integers(0, len(NAMESPACE)))
def test_no_body_breaks_it(tail: bytes, cut: int) -> None:
    for content in (tail, b"k8s\0" + tail, NAMESPACE[:cut], NAMESPACE[:cut] + tail):
        try:
            protobuf.decode(content)
        except ApiError as error:
            assert error.code in (400, 415)
