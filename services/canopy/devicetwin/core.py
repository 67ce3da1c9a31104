"""What an update, a state, or a mapper's report does to one device. Pure; `batch` calls it, time comes as an argument.

An update is taken whole or not at all. What is refused comes back as a `Refused` and changes nothing.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from canopy.contracts.devices import MAX_VALUE_BYTES, STATES
from canopy.contracts.wire import (
    DESIRED_REFUSED,
    MAX_STATE_BYTES,
    MAX_TWINS,
    DeviceState,
    Problem,
    Side,
    TwinState,
    bounded_problems,
    encode,
)
from canopy.devicetwin import values
from canopy.devicetwin.device import Device, Property, changed

NO_DEVICE = "update rejected due to the device is not existed"
ONLINE_AGAIN_MS = 60_000
"""A mapper that says online with every report moves `last_online` at most so often."""

_SHOWN_CHARACTERS = 60
_ESCAPED = 6  # JSON may write one byte of a value as \\u00XX
_AROUND = 160  # bytes of JSON around one value
_UNDECLARED = Property()


class Asked(msgspec.Struct, frozen=True):
    """One side of a twin in an update."""

    value: str | None = None


class Kind(msgspec.Struct, frozen=True):
    type: str | None = None


class TwinAsked(msgspec.Struct, frozen=True):
    """What an update says of one key."""

    actual: Asked | None = None
    expected: Asked | None = None
    optional: bool | None = None
    metadata: Kind | None = None


class Refused(NamedTuple):
    """An HTTP-like code and a reason that names the key and what would be right."""

    code: int
    reason: str


class Updated(NamedTuple):
    """The device afterwards (the same object if nothing differs), and the keys that the answer shows."""

    device: Device
    keys: tuple[str, ...]


Twins = Mapping[str, TwinAsked | None]


def update(device: Device, asked: Twins, now: int, most_value_bytes: int = MAX_VALUE_BYTES) -> Updated | Refused:
    """Take what a device or an application says of some keys; None deletes an optional twin."""
    twins, required = device.state.twins, device.local.required
    new, keys, grown = dict(twins), [], 0
    for key, wish in asked.items():
        if wish is None:
            if key not in required:
                new.pop(key, None)
                keys.append(key)
            continue
        held = twins.get(key)
        twin = _wished(key, held, wish, device.spec.properties.get(key, _UNDECLARED), now, most_value_bytes)
        if isinstance(twin, Refused):
            return twin
        required = _required(required, key, wish.optional)
        keys.append(key)
        if twin is not held:
            new[key] = twin
            grown += _growth(key, wish)
    required = tuple(k for k in required if k in new)
    return _stored(device, new, required, grown, tuple(keys))


def _stored(
    device: Device, twins: dict[str, TwinState], required: tuple[str, ...], grown: int, keys: tuple[str, ...]
) -> Updated | Refused:
    if required != device.local.required:
        device = replace(device, local=replace(device.local, required=required))
    if not grown and twins.keys() == device.state.twins.keys():
        return Updated(device, keys)
    if why := too_many(twins):
        return why
    state = replace(device.state, twins=twins)
    weight = device.weight + grown
    if weight > MAX_STATE_BYTES:
        weight = len(encode(state))
        if weight > MAX_STATE_BYTES:
            return Refused(400, f"state too large: {weight} bytes with this update, at most {MAX_STATE_BYTES}")
    return Updated(changed(device, state, weight=weight), keys)


def too_many(twins: Mapping[str, TwinState]) -> Refused | None:
    """Why a device may not have so many twins."""
    if len(twins) <= MAX_TWINS:
        return None
    return Refused(400, f"state too large: {len(twins)} twins with this update, at most {MAX_TWINS}")


def _growth(key: str, wish: TwinAsked) -> int:
    """At least what the update adds to the encoded state."""
    sides = (wish.actual, wish.expected)
    return _AROUND + len(key) + sum(_ESCAPED * len(s.value) + _AROUND for s in sides if s and s.value)


def _required(required: tuple[str, ...], key: str, optional: bool | None) -> tuple[str, ...]:
    if optional is None or (key in required) is not optional:
        return required
    return tuple(k for k in required if k != key) if optional else tuple(sorted((*required, key)))


def _wished(
    key: str, held: TwinState | None, wish: TwinAsked, declared: Property, now: int, most: int
) -> TwinState | Refused:
    """The twin afterwards; the same object if the values are equal."""
    if held is None and not values.is_key(key):
        return Refused(400, f"twin key {_short(key)} is not allowed: use {values.KEY_RULE}")
    if wish.actual is None and wish.expected is None and (held is None or wish.optional is None):
        return Refused(400, f"twin '{key}' has neither actual nor expected: give one of them a value")
    kind = held.type if held else (wish.metadata and wish.metadata.type) or declared.type or values.STRING
    reported = held.reported if held else None
    expected = held.expected if held else None
    if wish.actual is not None:
        if why := fault(key, "actual", kind, wish.actual.value, most):
            return why
        reported = _side(reported, wish.actual.value or "", now)
    if wish.expected is not None:
        why = fault(key, "expected", kind, wish.expected.value, most)
        if why := why or unwanted(key, wish.expected.value or "", declared):
            return why
        expected = _side(expected, wish.expected.value or "", now)
    if held is not None and reported is held.reported and expected is held.expected:
        return held
    return TwinState(reported=reported, expected=expected, type=kind)


def _side(held: Side | None, value: str, now: int) -> Side:
    return held if held is not None and held.value == value else Side(value=value, timestamp=now)


def fault(key: str, side: str, kind: str, value: str | None, most: int = MAX_VALUE_BYTES) -> Refused | None:
    """Why a value may not stand there."""
    if value is None:
        return Refused(400, f"twin '{key}': {side} has no value: give {side}.value as a JSON string")
    if len(value) > most or (4 * len(value) > most and len(value.encode()) > most):
        return Refused(400, f"twin '{key}': {side}.value is longer than {most} bytes")
    why = values.fault(kind, value)
    if not why:
        return None
    if why == "the value type is not allowed":
        why = f"{why}: metadata.type {_short(kind)}, use one of {', '.join(values.TYPES)}"
        return Refused(400, f"{why} (twin '{key}')")
    return Refused(400, f"{why}: twin '{key}', {side}.value {_short(value)}")


def unwanted(key: str, value: str, declared: Property) -> Refused | None:
    """Why the property may not be set so: it is read only, or the value is outside its bounds."""
    if declared.read_only:
        return Refused(400, f"twin '{key}' is ReadOnly in its DeviceModel: expected may not be set")
    why = values.beyond(value, declared.minimum, declared.maximum)
    return Refused(400, f"{why}: twin '{key}', expected.value {_short(value)}") if why else None


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")


def say_state(device: Device, said: str, now: int, again_ms: int = 0) -> Device | Refused:
    """Take online, offline, ok, unknown or unhealthy, in any case. Online moves `last_online`, if `again_ms` passed."""
    state = said.lower()
    if state not in STATES:
        return Refused(400, f"state {_short(said)} is not one of {', '.join(STATES)}")
    last = device.state.last_online
    if state == "online" and (device.state.state != "online" or now - last >= again_ms):
        last = now
    if (state, last) == (device.state.state, device.state.last_online):
        return device
    return changed(device, replace(device.state, state=state, last_online=last))


def say_problems(device: Device, said: Iterable[Problem]) -> Device:
    """Take all that the mapper says is wrong; what this unit itself refuses stands beside it. Values go first."""
    ours = [p for p in device.state.problems if p.code == DESIRED_REFUSED]
    return with_problems(device, [*ours, *(p for p in said if p.code != DESIRED_REFUSED)])


def with_problems(device: Device, problems: Iterable[Problem]) -> Device:
    """The device with these problems, or with none where there is no room for them."""
    kept = bounded_problems(problems)
    if kept == device.state.problems:
        return device
    weight = device.weight + len(encode(kept)) + _AROUND
    if weight > MAX_STATE_BYTES:
        weight = len(encode(replace(device.state, problems=kept)))
    if weight > MAX_STATE_BYTES:
        kept, weight = [], device.weight
    return changed(device, replace(device.state, problems=kept), weight=weight)


def differing(state: DeviceState) -> dict[str, str]:
    """What the device should be set to: every expected value that the reported one does not agree with."""
    return {
        k: t.expected.value for k, t in state.twins.items() if t.expected is not None and not _agrees(t, t.expected)
    }


def _agrees(twin: TwinState, expected: Side) -> bool:
    return twin.reported is not None and values.agrees(twin.type, twin.reported.value, expected.value)
