"""What cannot be read is answered with what is wrong, and with the event's id where there is one."""

import json
from typing import Any

import pytest

from canopy.contracts.wire import MAX_BODY_BYTES, DeviceState, Side, TwinState
from canopy.devicetwin import payloads
from canopy.devicetwin.device import Device, Local
from canopy.devicetwin.payloads import Malformed


@pytest.mark.parametrize(
    ("data", "event", "why"),
    [
        (b"", "", "not JSON"),
        (b"this is no JSON", "", "not JSON"),
        (b'{"event_id":"e1","twin":{', "e1", "not JSON"),
        (b'\xff{"event_id": "e1"}', "e1", "not JSON"),
        (b"[" * 100_000, "", ""),
        (b"[]", "", "must be a JSON object"),
        (b'{"event_id":7,"twin":{}}', "", "event_id must be a JSON string"),
        (b'{"event_id":"e1"}', "e1", "twin is missing"),
        (b'{"event_id":"e1","twin":null}', "e1", "twin is missing or no object"),
        (b'{"event_id":"e1","twin":[]}', "e1", "twin is missing or no object"),
        (b'{"event_id":"e1","twin":{"t":{"actual":{"value":1}}}}', "e1", "twin 't'"),
        (b'{"event_id":"e1","twin":{"a":null,"t":{"actual":{"value":1}}}}', "e1", "values are JSON strings"),
        (b'{"event_id":"e1","twin":{"t":5}}', "e1", "twin 't'"),
    ],
)
def test_a_payload_that_cannot_be_read(data: bytes, event: str, why: str) -> None:
    with pytest.raises(Malformed) as raised:
        payloads.read(payloads.UPDATE, data)
    assert raised.value.event_id == event
    assert raised.value.refused.code == 400 and why in raised.value.refused.reason


def test_a_state_update_without_a_state_is_told_which_there_are() -> None:
    with pytest.raises(Malformed) as raised:
        payloads.read(payloads.STATE, b'{"event_id":"s1"}')
    assert raised.value.event_id == "s1" and "online, offline" in raised.value.refused.reason


def device(twins: int, size: int = 1) -> Device:
    side = Side(value="x" * size, timestamp=5)
    state = DeviceState(twins={f"k{i}": TwinState(reported=side, expected=side) for i in range(twins)})
    return Device("default", "d1", "u1", state=state, local=Local(required=("k0",)))


def test_a_twin_is_shown_with_both_sides_their_times_and_whether_it_may_go() -> None:
    (body,) = payloads.twin("e1", 9, device(2))
    shown: Any = json.loads(body)
    side = {"value": "x", "metadata": {"timestamp": 5}}
    twin = {"expected": side, "actual": side, "optional": True, "metadata": {"type": "string"}}
    assert shown == {"event_id": "e1", "timestamp": 9, "twin": {"k0": {**twin, "optional": False}, "k1": twin}}


def test_an_answer_larger_than_a_message_comes_in_pieces() -> None:
    bodies = payloads.twin("e1", 9, device(20, 20_000))
    assert len(bodies) > 1 and all(len(b) < MAX_BODY_BYTES for b in bodies)
    assert {k for b in bodies for k in json.loads(b)["twin"]} == {f"k{i}" for i in range(20)}
