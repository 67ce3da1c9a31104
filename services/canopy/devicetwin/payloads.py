"""KubeEdge's MQTT payloads: what comes in, decoded; what goes out, encoded. Pure; `batch` calls it.

What does not decode is read again slowly, so that the answer names what is wrong and bears the event's id.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from canopy.contracts.devices import STATES
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import MAX_BODY_BYTES, Side, TwinState
from canopy.devicetwin.core import Refused, TwinAsked, Twins, differing
from canopy.devicetwin.device import Device

MOST_BODY_BYTES = MAX_BODY_BYTES - 1024

_EVENT = re.compile(rb'"event_id"\s*:\s*"([^"\\\x00-\x1f]{0,256})"')
_EVENT_WITHIN_BYTES = 4096
EXAMPLE = '{"twin":{"KEY":{"actual":{"value":"TEXT"}}}}'

T = TypeVar("T")


class Update(msgspec.Struct, frozen=True):
    twin: dict[str, TwinAsked | None]
    event_id: str = ""
    traceparent: str = ""


class StateUpdate(msgspec.Struct, frozen=True):
    state: str
    event_id: str = ""
    traceparent: str = ""


class Get(msgspec.Struct, frozen=True):
    event_id: str = ""


UPDATE = msgspec.json.Decoder(Update)
STATE = msgspec.json.Decoder(StateUpdate)
GET = msgspec.json.Decoder(Get)
_ENCODE = msgspec.json.Encoder().encode


class Malformed(Exception):
    """A payload that says nothing we know. `event_id` may be empty."""

    def __init__(self, event_id: str, reason: str) -> None:
        super().__init__(reason)
        self.event_id, self.refused = event_id, Refused(400, reason)


def read(decoder: "msgspec.json.Decoder[T]", data: bytes) -> T:
    """Decode, or raise Malformed."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise _malformed(data, str(e)) from None


def _malformed(data: bytes, why: str) -> Malformed:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        match = _EVENT.search(data[:_EVENT_WITHIN_BYTES])
        return Malformed(match[1].decode(errors="replace") if match else "", f"the payload is not JSON: {why}")
    if not isinstance(found, dict):
        return Malformed("", f"the payload must be a JSON object such as {EXAMPLE}")
    event = found.get("event_id", "")
    if not isinstance(event, str):
        return Malformed("", "event_id must be a JSON string")
    return Malformed(event, _what_is_wrong(found.get("twin")) or _named(why))


def _named(why: str) -> str:
    if "missing required field `twin`" in why or "`$.twin`" in why:
        return f"twin is missing or no object: give {EXAMPLE}"
    if "missing required field `state`" in why or "`$.state`" in why:
        return f"state is missing or no text: give one of {', '.join(STATES)}"
    return why


def _what_is_wrong(twin: Any) -> str:
    """The key at fault; msgspec's own path does not name it."""
    for key, said in twin.items() if isinstance(twin, dict) else ():
        try:
            msgspec.convert(said, TwinAsked | None)
        except msgspec.ValidationError as e:
            path = str(e).replace("`$", "`").replace("`.", "`")
            hint = "; values are JSON strings" if "value" in path else ""
            return f"twin '{key[:128]}': {path}{hint}"
    return ""


# --- out --------------------------------------------------------------------------------------------------------------
def pieces(items: Sequence[Any], build: Callable[[Sequence[Any]], bytes]) -> list[bytes]:
    """One body, or several where one would be more than a message may hold."""
    body = build(items)
    if len(body) <= MOST_BODY_BYTES or len(items) < 2:
        return [body]
    half = len(items) // 2
    return pieces(items[:half], build) + pieces(items[half:], build)


def refusal(event_id: str, now: int, refused: Refused) -> bytes:
    body = {"event_id": event_id, "timestamp": now, "code": refused.code, "reason": refused.reason}
    return _ENCODE(body)


def result(event_id: str, now: int, after: Device, asked: Twins, keys: Sequence[str]) -> list[bytes]:
    """The sides that the update named, as they are now."""
    twins, required = after.state.twins, after.local.required

    def one(key: str) -> dict[str, Any] | None:
        wish, twin = asked[key], twins.get(key)
        if wish is None or twin is None:
            return None
        shown: dict[str, Any] = {}
        if wish.expected is not None:
            shown["expected"] = {"value": wish.expected.value, "metadata": {"timestamp": now}}
        if wish.actual is not None:
            shown["actual"] = {"value": wish.actual.value, "metadata": {"timestamp": now}}
        return {**shown, "optional": key not in required, "metadata": {"type": twin.type}}

    return pieces(keys, lambda ks: _ENCODE({"event_id": event_id, "timestamp": now, "twin": {k: one(k) for k in ks}}))


def document(event_id: str, now: int, before: Device, after: Device, keys: Sequence[str]) -> list[bytes]:
    """Last and current of each touched twin."""

    def one(key: str) -> dict[str, Any]:
        return {"last": _shown(before, key), "current": _shown(after, key)}

    return pieces(keys, lambda ks: _ENCODE({"event_id": event_id, "timestamp": now, "twin": {k: one(k) for k in ks}}))


def delta(event_id: str, now: int, device: Device) -> list[bytes]:
    """Where expected differs from actual; nothing if it differs nowhere."""
    wanted = differing(device.state)
    if not wanted:
        return []
    expecting = [k for k, t in device.state.twins.items() if t.expected is not None]

    def build(keys: Sequence[str]) -> bytes:
        twin = {k: _shown(device, k) for k in keys}
        said = {k: wanted[k] for k in keys if k in wanted}
        return _ENCODE({"event_id": event_id, "timestamp": now, "twin": twin, "delta": said})

    return pieces(expecting, build)


def twin(event_id: str, now: int, device: Device) -> list[bytes]:
    """The answer to twin/get."""

    def build(keys: Sequence[str]) -> bytes:
        return _ENCODE({"event_id": event_id, "timestamp": now, "twin": {k: _shown(device, k) for k in keys}})

    return pieces(list(device.state.twins), build)


def state(event_id: str, now: int, device: Device) -> bytes:
    """The answer to state/update."""
    held = device.state
    said = {"name": device.name, "state": held.state, "lastOnlineTime": rfc3339(held.last_online)}
    return _ENCODE({"event_id": event_id, "timestamp": now, "device": said})


def members(event_id: str, now: int, devices: Iterable[Device]) -> list[bytes]:
    """The answer to membership/get."""
    listed = [_member(d) for d in devices]
    return pieces(listed, lambda some: _ENCODE({"event_id": event_id, "timestamp": now, "devices": some}))


def came(event_id: str, now: int, device: Device) -> bytes:
    """membership/updated: a device was added."""
    return _updated(event_id, now, [_member(device)], None)


def went(event_id: str, now: int, device: Device) -> bytes:
    """membership/updated: a device was removed."""
    return _updated(event_id, now, None, [_member(device)])


def _updated(event_id: str, now: int, added: list[Any] | None, removed: list[Any] | None) -> bytes:
    body = {"event_id": event_id, "timestamp": now, "added_devices": added, "removed_devices": removed}
    return _ENCODE(body)


def _member(device: Device) -> dict[str, Any]:
    kind = {"type": "string"}
    attributes = {k: {"value": v, "optional": True, "metadata": kind} for k, v in device.spec.attributes.items()}
    return {
        "id": f"{device.namespace}/{device.name}",
        "name": device.name,
        "description": device.spec.description,
        "state": device.state.state,
        "last_online": rfc3339(device.state.last_online),
        "attributes": attributes,
    }


def _shown(device: Device, key: str) -> dict[str, Any] | None:
    twin = device.state.twins.get(key)
    return _twin(twin, key not in device.local.required) if twin is not None else None


def _twin(twin: TwinState, optional: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if twin.expected is not None:
        shown["expected"] = _side(twin.expected)
    if twin.reported is not None:
        shown["actual"] = _side(twin.reported)
    shown["optional"] = optional
    shown["metadata"] = {"type": twin.type}
    return shown


def _side(side: Side) -> dict[str, Any]:
    return {"value": side.value, "metadata": {"timestamp": side.timestamp}}
