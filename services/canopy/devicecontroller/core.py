"""What to do about one device: write its DeviceStatus, purge a record that is of no device, or look again. Pure.

`handlers.StatusWriter` reads in the order of RULES 24 (DeviceStatus, then TWINS), asks `decide`, and carries it out.
"""

from dataclasses import dataclass

import msgspec
from msgspec import structs

from canopy.contracts import wire
from canopy.contracts.devices import API_VERSION, DEVICE, Condition, DeviceState, OwnerReference, Twin, TwinValue
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import Name, TwinRecord
from canopy.devicecontroller.objects import STAMP, Seen, Source, StatusSeen
from canopy.devicecontroller.troubles import conditions_of

DeviceKey = tuple[str, str, str]
"""(node, namespace, name): a subject of TWINS."""


@dataclass(frozen=True, slots=True)
class Record:
    """What TWINS holds for a device, and its sequence there."""

    seq: int
    twin: TwinRecord


@dataclass(frozen=True, slots=True)
class Nothing:
    """All is as it should be."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Not now: this replica has not seen enough, or garbage collection comes first."""

    why: str


@dataclass(frozen=True, slots=True)
class Purge:
    """The record is of no device of Kubernetes: remove what the subject holds up to `upto` (RULES 26)."""

    upto: int


@dataclass(frozen=True, slots=True)
class Write:
    """Make the DeviceStatus say `state`. `resource_version` is what was read, empty: there is none yet.

    `adopt`: it belongs to nobody, so its ownerReferences are to be written first. `owner` is the Device;
    `trace` is the traceparent of the report.
    """

    name: Name
    resource_version: str
    state: DeviceState
    source: Source
    owner: OwnerReference
    adopt: bool = False
    trace: str = ""


Step = Nothing | LookAgain | Purge | Write


def decide(key: DeviceKey, device: Seen | None, seen: int, status: StatusSeen | None, record: Record | None) -> Step:
    """RULES 24-26 for one subject of TWINS. `seen` is the Device revision up to which this replica knows all."""
    if record is None:
        return Nothing()
    twin = record.twin
    if device is None or (device.node, device.uid) != (key[0], twin.uid):
        return LookAgain("a later Device") if twin.device_revision > seen else Purge(record.seq)
    return _toward(device, twin, status)


def _toward(device: Seen, twin: TwinRecord, status: StatusSeen | None) -> Step:
    held = status.state.conditions if status else ()
    state = structs.replace(state_of(twin), conditions=conditions_of(held, twin, device.generation))
    source = Source(twin.node, twin.session, twin.n, device.revision, device.generation)
    owner = OwnerReference(api_version=API_VERSION, kind=DEVICE, name=device.name, uid=device.uid, controller=True)
    if status is None:
        return Write(device.id, "", state, source, owner, trace=twin.trace)
    if status.owner not in ("", device.uid):
        return LookAgain("the DeviceStatus of a former Device is still there")
    if status.source.device_revision > device.revision:
        return LookAgain("the DeviceStatus was derived from a later Device")
    if status.owner and _as_good(status.source, source) and _same(status.state, state):
        return Nothing()
    return Write(device.id, status.resource_version, state, source, owner, adopt=not status.owner, trace=twin.trace)


def _as_good(held: Source, new: Source) -> bool:
    """A Device's later revision is written down when its spec changed: only that can have moved it meanwhile, and an
    older replica must then not write what it still believes (RULES 25). Its labels and conditions cost no write."""
    return (held.node, held.session, held.n, held.generation) == (new.node, new.session, new.n, new.generation)


def _same(a: DeviceState, b: DeviceState) -> bool:
    """What we write; others' extensions are not ours."""
    return (a.twins, a.state, a.last_online_time, _sorted(a)) == (b.twins, b.state, b.last_online_time, _sorted(b))


def _sorted(state: DeviceState) -> list[Condition]:
    return sorted(state.conditions, key=lambda c: c.type)


def state_of(twin: TwinRecord) -> DeviceState:
    """A device's state as Kubernetes shows it: twins sorted by name, times as text."""
    twins = tuple(_twin(name, twin.state.twins[name]) for name in sorted(twin.state.twins))
    return DeviceState(twins=twins, state=twin.state.state, last_online_time=rfc3339(twin.state.last_online))


def _twin(name: str, twin: wire.TwinState) -> Twin:
    return Twin(
        property_name=name,
        reported=_value(twin.reported, {"type": twin.type}),
        observed_desired=_value(twin.expected, {}),
    )


def _value(side: wire.Side | None, more: dict[str, str]) -> TwinValue | None:
    if side is None:
        return None
    return TwinValue(value=side.value, metadata={**side.metadata, "timestamp": str(side.timestamp), **more})


def status_patch(write: Write, resource_version: str) -> bytes:
    """The one write of the steady state: a merge patch of the status subresource, refused if another came between.

    What it was derived from stands in `status.extensions`, a free map, and not in annotations: those belong to the
    object itself, and would be a second write each time.
    """
    state = write.state
    status: dict[str, object] = {
        "twins": state.twins,
        "state": state.state,
        "lastOnlineTime": state.last_online_time,
        "extensions": {STAMP: msgspec.to_builtins(write.source)},
    }
    if state.conditions:  # a merge replaces the list: those of others stand in it as they were read
        status["conditions"] = state.conditions
    return wire.encode({"metadata": {"resourceVersion": resource_version}, "status": status})


def new_status(write: Write) -> bytes:
    """The object to create, before its first patch."""
    namespace, name = write.name
    meta = {"namespace": namespace, "name": name, "ownerReferences": [write.owner]}
    return wire.encode({"apiVersion": API_VERSION, "kind": "DeviceStatus", "metadata": meta})


def adoption(write: Write) -> bytes:
    """The merge patch that gives a DeviceStatus of nobody to its Device."""
    meta = {"resourceVersion": write.resource_version, "ownerReferences": [write.owner]}
    return wire.encode({"metadata": meta})
