"""The device API `devices.kubeedge.io/v1beta1` as values: Device, DeviceModel, DeviceStatus.

Every manifest that KubeEdge accepts decodes here. Unknown fields are passed over, as Kubernetes prunes them; a known
field of the wrong type raises msgspec.ValidationError with its path. Descriptions end up in the generated CRDs
(`crds.py`). Controllers decode what Kubernetes holds with these; devicetwin and mappers decode what a node gets.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

GROUP = "devices.kubeedge.io"
VERSION = "v1beta1"
API_VERSION = f"{GROUP}/{VERSION}"
MANAGED = "node.canopy.dev/managed"
"""Label of the Nodes that Canopy made: `true`."""
TRACE = "trace.canopy.dev/traceparent"
"""Annotation of a Device: the trace of the change of its spec that led to the generation which TRACED names."""
TRACED = "trace.canopy.dev/generation"
DEVICES = "devices"
DEVICE_MODELS = "devicemodels"
DEVICE_STATUSES = "devicestatuses"
DEVICE = "Device"
MODEL = "DeviceModel"

STATES = ("online", "offline", "ok", "unknown", "unhealthy")
"""What a device's state may be, once somebody has said one."""
MAX_VALUE_BYTES = 64 * 1024
"""The most that one value of a property may hold, as text; DeviceTwin has a setting for it."""

DEFAULT_COLLECT_CYCLE_MS = 1000
"""How often a property is read when its `collectCycle` says nothing (0)."""
_FROM_HERE_NS = 100_000_000
"""KubeEdge's schema calls a cycle ms, its mappers and samples count ns: so high (28 hours, or 0.1 s) it is ns."""

PropertyType = Literal["INT", "FLOAT", "DOUBLE", "STRING", "BOOLEAN", "BYTES", "STREAM"]
AccessMode = Literal["ReadWrite", "ReadOnly"]
ConfigData = Annotated[dict[str, Any], Meta(description="Any object; the driver of the protocol knows its fields.")]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all shapes here: JSON objects with camelCase names, defaults left out."""


def _always(word: str) -> Any:
    """A default that is written out all the same: Kubernetes refuses an object without apiVersion and kind."""
    return msgspec.field(default_factory=lambda: word)


class OwnerReference(_Shape, frozen=True, kw_only=True):
    """The object that this one goes with."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(_Shape, frozen=True, kw_only=True):
    """Kubernetes' metadata, as far as Canopy reads it. Times are RFC 3339."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Condition(_Shape, frozen=True, kw_only=True):
    """One aspect of an object's health, as GitOps tools read it."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] = ""
    observed_generation: int = 0


Conditions = Annotated[
    tuple[Condition, ...],
    Meta(
        description="One condition a type.",
        extra_json_schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


# --- DeviceModel ------------------------------------------------------------------------------------------------------
class Visitors(_Shape, frozen=True, kw_only=True):
    """How the driver reaches a property."""

    protocol_name: Annotated[str, Meta(description="Name of the protocol.")] = ""
    config_data: ConfigData | None = None


class ModelProperty(_Shape, frozen=True, kw_only=True):
    """One property that every device of the model has."""

    name: Annotated[str, Meta(description="Unique in the model.")] = ""
    description: str = ""
    type: Annotated[PropertyType, Meta(description="How the value's text is to be read.")] = "STRING"
    access_mode: Annotated[AccessMode, Meta(description="Whether a desired value may be set.")] = "ReadOnly"
    minimum: Annotated[str, Meta(description="Lowest desired value allowed, as text.")] = ""
    maximum: Annotated[str, Meta(description="Highest desired value allowed, as text.")] = ""
    unit: str = ""
    visitors: Visitors | None = None


class DeviceModelSpec(_Shape, frozen=True, kw_only=True):
    """What the devices of one make have in common."""

    properties: tuple[ModelProperty, ...] = ()
    protocol: Annotated[str, Meta(description="Name of the protocol that these devices speak.")] = ""
    protocol_config_data: ConfigData | None = None


class DeviceModel(_Shape, frozen=True, kw_only=True):
    """A blueprint: which properties the devices of one make have, of what type, and which may be set."""

    api_version: str = _always(API_VERSION)
    kind: str = _always("DeviceModel")
    metadata: ObjectMeta = ObjectMeta()
    spec: DeviceModelSpec = DeviceModelSpec()


# --- Device -----------------------------------------------------------------------------------------------------------
class TwinValue(_Shape, frozen=True, kw_only=True):
    """A value as text, with what is known about it."""

    value: str
    metadata: Annotated[dict[str, str], Meta(description="timestamp (ms), type.")] = msgspec.field(default_factory=dict)


class DeviceProperty(_Shape, frozen=True, kw_only=True):
    """How this device's property is read, reported, and what it should be."""

    name: Annotated[str, Meta(description="Unique in the device; a property of its model.")] = ""
    desired: Annotated[TwinValue | None, Meta(description="What the property should be.")] = None
    visitors: Visitors | None = None
    report_cycle: Annotated[int, Meta(description="ms between reports; 0: as collected.")] = 0
    collect_cycle: Annotated[
        int, Meta(description="ms between readings; 0: 1000; from 100000000 up it is ns, as in KubeEdge's samples.")
    ] = 0
    report_to_cloud: Annotated[bool | None, Meta(description="Whether values go to the cloud.")] = None
    push_method: Annotated[dict[str, Any] | None, Meta(description="Where else values are pushed.")] = None

    @property
    def collect_cycle_ms(self) -> int:
        """How often to read it, whichever unit was meant."""
        said = self.collect_cycle or DEFAULT_COLLECT_CYCLE_MS
        return said // 1_000_000 if said >= _FROM_HERE_NS else said


class Protocol(_Shape, frozen=True, kw_only=True):
    """How the device is reached."""

    protocol_name: Annotated[str, Meta(description="Name of the protocol, which chooses the driver.")] = ""
    config_data: ConfigData | None = None


class DeviceMethod(_Shape, frozen=True, kw_only=True):
    """A command that the device offers."""

    name: str = ""
    description: str = ""
    property_names: tuple[str, ...] = ()


class StateReport(_Shape, frozen=True, kw_only=True):
    """Whether and how often the device's own state (online, offline) is reported."""

    report_to_cloud: bool | None = None
    report_cycle: Annotated[int, Meta(description="ms between reports.")] = 0


class ModelReference(_Shape, frozen=True, kw_only=True):
    """A DeviceModel in the Device's namespace."""

    name: str = ""


class DeviceSpec(_Shape, frozen=True, kw_only=True):
    """Which model the device is of, which node it hangs on, how it is reached, and what it should be."""

    device_model_ref: ModelReference | None = None
    node_name: Annotated[str, Meta(description="The node that the device is attached to.")] = ""
    properties: tuple[DeviceProperty, ...] = ()
    protocol: Protocol = Protocol()
    methods: tuple[DeviceMethod, ...] = ()
    state_report: StateReport | None = None


class Twin(_Shape, frozen=True, kw_only=True):
    """One property as the edge last said it."""

    property_name: str = ""
    reported: Annotated[TwinValue | None, Meta(description="What the device said.")] = None
    observed_desired: Annotated[TwinValue | None, Meta(description="The desired value that the edge goes by.")] = None


class DeviceState(_Shape, frozen=True, kw_only=True):
    """What the edge said of the device, and what Canopy thinks of it."""

    twins: tuple[Twin, ...] = ()
    state: Annotated[str, Meta(description="online, offline, ok, unknown or unhealthy.")] = ""
    last_online_time: str = ""
    extensions: Annotated[dict[str, Any] | None, Meta(description="Anything more that a mapper says.")] = None
    conditions: Conditions = ()
    observed_generation: Annotated[int, Meta(description="The generation that the conditions speak of.")] = 0


class Device(_Shape, frozen=True, kw_only=True):
    """One device at one edge node: how it is reached and what it should be."""

    api_version: str = _always(API_VERSION)
    kind: str = _always("Device")
    metadata: ObjectMeta = ObjectMeta()
    spec: DeviceSpec = DeviceSpec()
    status: DeviceState | None = None
    """Conditions; twins only where an older KubeEdge wrote them (they live in the DeviceStatus)."""


class DeviceStatus(_Shape, frozen=True, kw_only=True):
    """What a device reported. Owned by the Device of the same name, and goes with it."""

    api_version: str = _always(API_VERSION)
    kind: str = _always("DeviceStatus")
    metadata: ObjectMeta = ObjectMeta()
    status: DeviceState = DeviceState()
