"""What this unit keeps of each Kubernetes object: values decoded once, when an informer brings the bytes. Pure.

The informers of `adapters/kube.py` call the `read_...` functions; all else works with what they return.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from canopy.contracts.devices import API_VERSION, DEVICE, MODEL, TRACE, TRACED, Condition, DeviceState, OwnerReference
from canopy.contracts.wire import Entry, Key, Name, Put, encode
from canopy.sync.down import strip
from canopy.sync.sets import digest

KINDS = (DEVICE, MODEL)
MAX_OBJECT_BYTES = 200 * 1024
"""What is bigger is not sent: with what stands around it, it would not fit into one body."""
STAMP = "canopy"
"""The key of `DeviceStatus.status.extensions` under which we write what a status was derived from."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A Device or DeviceModel. `put` is what a node gets of it, None if that is above MAX_OBJECT_BYTES.

    `node` and `model` are a Device's (empty: it has none); `revision` is its resourceVersion; `trace` is that
    of the change that made its spec what it is, where that is known.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    revision: int
    generation: int
    size_bytes: int
    put: Put | None
    node: str = ""
    model: str = ""
    conditions: tuple[Condition, ...] = ()
    trace: str = ""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.name)

    @property
    def id(self) -> Name:
        return (self.namespace, self.name)


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = "0"
    generation: int = 0
    owner_references: tuple[OwnerReference, ...] = ()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)

    @property
    def trace(self) -> str:
        """Of the last change of the spec: an older one's says nothing of what is now."""
        return self.annotations.get(TRACE, "") if self.annotations.get(TRACED) == str(self.generation) else ""


class _Ref(msgspec.Struct):
    name: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    device_model_ref: _Ref | None = None


class _Conditions(msgspec.Struct):
    conditions: tuple[Condition, ...] = ()


class _Object(msgspec.Struct):
    metadata: _Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Conditions | None = None


def read_device(raw: bytes) -> Seen:
    """A Device as Kubernetes has it. Raises msgspec.ValidationError for what the CRD would not let in."""
    return _read(DEVICE, raw)


def read_model(raw: bytes) -> Seen:
    """A DeviceModel as Kubernetes has it."""
    return _read(MODEL, raw)


def _read(kind: str, raw: bytes) -> Seen:
    found = _OBJECT.decode(raw)
    meta, is_device = found.metadata, kind == DEVICE
    body = _body(kind, raw, meta.trace)
    entry = Entry(kind, meta.namespace, meta.name, meta.uid, body.digest)
    reference = found.spec.device_model_ref
    return Seen(
        kind,
        meta.namespace,
        meta.name,
        meta.uid,
        int(meta.resource_version),
        meta.generation,
        len(body.data),
        Put(entry, msgspec.Raw(body.data)) if len(body.data) <= MAX_OBJECT_BYTES else None,
        found.spec.node_name if is_device else "",
        reference.name if is_device and reference else "",
        found.status.conditions if is_device and found.status else (),
        meta.trace if is_device else "",
    )


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    digest: str


def _body(kind: str, raw: bytes, trace: str) -> _Body:
    """The bytes for a node, and the digest of what matters there.

    The body bears the resourceVersion, which devicetwin says again in its reports (RULES 21), and the trace of the last
    change of the spec; the digest does not: a write that changes nothing for the node must not go down to it.
    """
    obj = msgspec.json.decode(raw)
    kept = {**strip(obj), "apiVersion": API_VERSION, "kind": kind}  # items of a list may lack both
    metadata = kept["metadata"] = _untraced(kept["metadata"])
    with_revision = {**metadata, "resourceVersion": obj["metadata"].get("resourceVersion", "0")}
    if trace:
        with_revision["annotations"] = {**metadata.get("annotations", {}), TRACE: trace}
    return _Body(encode({**kept, "metadata": with_revision}), digest(encode(kept)))


def _untraced(metadata: Any) -> dict[str, Any]:
    """Without the annotations of traces; an object that had no others looks as if it never had any."""
    notes = {k: v for k, v in (metadata.get("annotations") or {}).items() if k not in (TRACE, TRACED)}
    others = {k: v for k, v in metadata.items() if k != "annotations" or notes or not v}
    return {**others, "annotations": notes} if notes else others


class Source(msgspec.Struct, frozen=True, rename="camel"):
    """What a DeviceStatus was derived from: the node, the stamp of its record, the Device's revision (RULES 25) and
    generation."""

    node: str = ""
    session: int = 0
    n: int = 0
    device_revision: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class StatusSeen:
    """A DeviceStatus. `owner` is the uid of the Device that owns it, empty if none does."""

    namespace: str
    name: str
    owner: str
    resource_version: str
    state: DeviceState
    source: Source

    @property
    def id(self) -> Name:
        return (self.namespace, self.name)


class _Status(msgspec.Struct):
    metadata: _Meta
    status: DeviceState = DeviceState()


def read_status(raw: bytes) -> StatusSeen:
    """A DeviceStatus as Kubernetes has it."""
    found = _STATUS.decode(raw)
    meta = found.metadata
    owners = [o.uid for o in meta.owner_references if o.kind == DEVICE]
    owner = owners[0] if owners else ""
    return StatusSeen(
        meta.namespace, meta.name, owner, meta.resource_version, found.status, _source(found.status.extensions)
    )


def _source(extensions: Mapping[str, object] | None) -> Source:
    """What somebody wrote there by hand, in another shape, counts as nothing: then the status is written anew."""
    try:
        return msgspec.convert((extensions or {}).get(STAMP, {}), Source)
    except msgspec.ValidationError:
        return Source()


_OBJECT = msgspec.json.Decoder(_Object)
_STATUS = msgspec.json.Decoder(_Status)
