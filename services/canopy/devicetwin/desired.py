"""What the cloud says of devices: reading Device and DeviceModel, and taking desired values. Pure; `batch` calls it.

A desired value is taken when (uid, value) differs from the last one taken: so an edit of one property does not impose
another's old value again, and a new uid starts anew. What the property refuses is not taken, and said once.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from canopy.contracts import devices as api
from canopy.contracts.wire import (
    DESIRED_REFUSED,
    MAX_REASON_CHARACTERS,
    MAX_STATE_BYTES,
    Name,
    Problem,
    Put,
    Side,
    TwinState,
    encode,
)
from canopy.devicetwin import core, values
from canopy.devicetwin.device import Device, Property, Spec, Taken, changed

ATTRIBUTE = "attribute.canopy.dev/"
DESCRIPTION = "kubernetes.io/description"


class Facts(NamedTuple):
    """A Device of the set: its uid, its resourceVersion (0: not known), what this unit needs of it, its trace."""

    uid: str
    revision: int
    spec: Spec
    trace: str = ""


class Adopted(NamedTuple):
    """The device afterwards, the keys whose expected value changed, and why desired values were not taken."""

    device: Device
    keys: tuple[str, ...]
    refused: dict[str, str]


def facts(
    puts: Iterable[Put], bug: Callable[[Put, Exception], None] = lambda put, error: None
) -> tuple[dict[Name, Facts], dict[Name, str]]:
    """The devices of a set, and what is wrong with those that cannot be read (they keep nothing but their uid).

    `bug` hears of those whose reading raised what nobody expected: they do not keep the others from being taken.
    """
    devices, models, wrong = [], {}, {}
    for put in puts:
        kind, namespace, name = put.entry.key
        try:
            if kind == api.DEVICE:
                devices.append((put, msgspec.json.decode(put.body, type=api.Device)))
            elif kind == api.MODEL:
                models[(namespace, name)] = msgspec.json.decode(put.body, type=api.DeviceModel)
        except msgspec.DecodeError as e:
            wrong[(namespace, name)] = f"{kind} {namespace}/{name}: {e}"
            if kind == api.DEVICE:
                devices.append((put, api.Device()))
    found = {}
    for put, device in devices:
        try:
            found[put.entry.key[1:]] = _facts(put, device, models)
        except Exception as e:
            bug(put, e)
            wrong[put.entry.key[1:]] = f"{put.entry.kind} {put.entry.namespace}/{put.entry.name}: {e!r}"
            found[put.entry.key[1:]] = Facts(put.entry.uid, 0, Spec())
    return found, wrong


def _facts(put: Put, device: api.Device, models: dict[Name, api.DeviceModel]) -> Facts:
    reference = device.spec.device_model_ref
    model = models.get((put.entry.namespace, reference.name)) if reference else None
    revision = device.metadata.resource_version
    trace = device.metadata.annotations.get(api.TRACE, "")
    return Facts(put.entry.uid, int(revision) if revision.isdecimal() else 0, _spec(device, model), trace)


def _spec(device: api.Device, model: api.DeviceModel | None) -> Spec:
    notes = device.metadata.annotations
    declared = {p.name: _declared(p) for p in (model.spec.properties if model else ())}
    wanted = {p.name: p.desired.value for p in device.spec.properties if p.desired is not None}
    streams = {p.name for p in (model.spec.properties if model else ()) if p.type == "STREAM"}
    return Spec(
        description=notes.get(DESCRIPTION, ""),
        attributes={k.removeprefix(ATTRIBUTE): v for k, v in sorted(notes.items()) if k.startswith(ATTRIBUTE)},
        properties={
            name: replace(declared.get(name, Property()), desired=wanted.get(name))
            for name in sorted((declared.keys() | wanted.keys()) - streams)
        },
    )


def _declared(p: api.ModelProperty) -> Property:
    return Property(
        type=values.FROM_MODEL.get(p.type, ""),
        read_only=p.access_mode == "ReadOnly",
        minimum=p.minimum,
        maximum=p.maximum,
    )


def adopt(device: Device | None, name: Name, said: Facts, now: int, most_value_bytes: int) -> Adopted:
    """Bring a row to what the cloud says; a row of another uid (or none) begins anew."""
    if device is None or device.uid != said.uid:
        device = Device(*name, said.uid)
    if (device.spec, device.device_revision) != (said.spec, said.revision):
        device = replace(device, spec=said.spec, device_revision=said.revision)
    twins, taken = dict(device.state.twins), dict(device.local.taken)
    refused: dict[str, str] = {}
    keys = _withdraw(device, twins, taken)
    for key, declared in said.spec.properties.items():
        if declared.desired is None or taken.get(key) == (said.uid, declared.desired):
            continue
        twin = _wanted(key, twins.get(key), declared, now, most_value_bytes)
        if isinstance(twin, core.Refused) or _too_large(device, {**twins, key: twin}):
            refused[key] = twin.reason if isinstance(twin, core.Refused) else "state too large"
            continue
        taken[key] = (said.uid, declared.desired)
        if twin is not twins.get(key):
            keys.append(key)
            twins[key] = twin
    return Adopted(_refusing(_with(device, twins, taken), refused, now), tuple(keys), refused)


def _refusing(device: Device, refused: Mapping[str, str], now: int) -> Device:
    """The device with what is refused now, so that the cloud hears of it; what was refused before keeps its time."""
    old = {p.property: p for p in device.state.problems if p.code == DESIRED_REFUSED}
    if not old and not refused:
        return device
    others = [p for p in device.state.problems if p.code != DESIRED_REFUSED]
    return core.with_problems(device, [*others, *(_refusal(k, why, old.get(k), now) for k, why in refused.items())])


def _refusal(key: str, why: str, old: Problem | None, now: int) -> Problem:
    new = Problem(code=DESIRED_REFUSED, reason=why[:MAX_REASON_CHARACTERS], property=key, since=now)
    return old if old is not None and old.reason == new.reason else new


def _withdraw(device: Device, twins: dict[str, TwinState], taken: dict[str, Taken]) -> list[str]:
    """Take back what the cloud no longer wants; a value that was set at the edge since stays."""
    keys = []
    for key, (_, value) in device.local.taken.items():
        declared = device.spec.properties.get(key)
        if declared is not None and declared.desired is not None:
            continue
        del taken[key]
        held = twins.get(key)
        if held is None or held.expected is None or held.expected.value != value:
            continue
        keys.append(key)
        if held.reported is None:
            del twins[key]
        else:
            twins[key] = replace(held, expected=None)
    return keys


def _wanted(
    key: str, held: TwinState | None, declared: Property, now: int, most_value_bytes: int
) -> TwinState | core.Refused:
    value = declared.desired or ""
    if not values.is_key(key):
        return core.Refused(400, f"property name {key!r} is not allowed: use {values.KEY_RULE}")
    kind = held.type if held else declared.type or values.STRING
    why = core.fault(key, "desired", kind, value, most_value_bytes) or core.unwanted(key, value, declared)
    if why is not None:
        return why
    if held is not None and held.expected is not None and held.expected.value == value:
        return held
    expected = Side(value=value, timestamp=now)
    return replace(held, expected=expected) if held else TwinState(expected=expected, type=kind)


def _too_large(device: Device, twins: dict[str, TwinState]) -> bool:
    return bool(core.too_many(twins)) or len(encode(replace(device.state, twins=twins))) > MAX_STATE_BYTES


def _with(device: Device, twins: dict[str, TwinState], taken: dict[str, Taken]) -> Device:
    if taken != device.local.taken:
        device = replace(device, local=replace(device.local, taken=taken))
    if twins == device.state.twins:
        return device
    return changed(device, replace(device.state, twins=twins))
