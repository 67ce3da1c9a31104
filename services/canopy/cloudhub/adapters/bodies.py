"""The bodies of the fleet API. Only `http` and `fleet` use them; inside, messages are those of `contracts`."""

from typing import Any

from pydantic import BaseModel, Field, RootModel, StrictStr

from canopy.bus.healths import wrong
from canopy.contracts.wire import Presence, Side, TwinRecord, UnitHealth


class Unit(BaseModel):
    """One run of a unit, as it was last heard."""

    unit: str
    run: str
    version: str
    well: bool
    wrong: str = Field(description="what is not well, in one line; empty: all is")
    silent_since: int | None = Field(description="ms since 1970; null: it is heard")
    facts: dict[str, str] = Field(description="words such as `protocol` (of a mapper) and `leads` (of a controller)")


class Node(BaseModel):
    """A node as Kubernetes knows it, and as it was last heard."""

    name: str
    online: bool = Field(description="heard within the last four beats")
    ready: bool = Field(description="the condition Ready in Kubernetes")
    last_heard: int | None = Field(description="ms since 1970; null: not heard")
    version: str = Field(description="of the edge's software")
    session: int
    labels: dict[str, str]
    health: dict[str, str] = Field(description="by unit of the edge")
    units: list[Unit] = Field(description="every unit of the edge; empty: its software does not say")
    pending: int = Field(description="device states that wait there to be sent")


class Nodes(BaseModel):
    nodes: list[Node]


class Value(BaseModel):
    value: str
    timestamp: int = Field(description="ms since 1970, when the edge took it")


class Twin(BaseModel):
    """One property: what the device says, and what the edge wants of it."""

    reported: Value | None
    expected: Value | None
    type: str


class Problem(BaseModel):
    """What is wrong with a device, or with one property of it, as its edge says."""

    code: str = Field(description="Unreachable, Misconfigured, ReadFailed, WriteFailed, WriteRefused, DesiredRefused")
    reason: str
    property: str = Field(description="empty: the device itself")
    since: int = Field(description="ms since 1970, by the edge's clock")
    last_success: int | None = Field(description="ms since 1970, when it last went well; null: not known")


class LiveTwin(BaseModel):
    """The last state that the device's node has sent."""

    namespace: str
    name: str
    node: str
    uid: str
    state: str = Field(description="online, offline, ok, unknown, unhealthy, or empty")
    last_online: int = Field(description="ms since 1970")
    received: int = Field(description="ms since 1970, by the cloud's clock")
    revision: int
    twins: dict[str, Twin]
    problems: list[Problem]


class Property(BaseModel):
    """A property as the Device and its DeviceModel declare it."""

    name: str
    type: str
    access_mode: str
    minimum: str
    maximum: str
    unit: str
    desired: str | None


class Device(BaseModel):
    """A Device as Kubernetes holds it, with its live twin (null: its node has sent none)."""

    namespace: str
    name: str
    uid: str
    node: str
    model: str
    protocol: str
    generation: int
    desired: dict[str, str]
    state: str
    twin: LiveTwin | None


class Devices(BaseModel):
    devices: list[Device]


class DeviceDetail(Device):
    properties: list[Property]
    status: dict[str, Any] | None = Field(description="the status of the DeviceStatus, as Kubernetes holds it")


class Desired(RootModel[dict[str, StrictStr]]):
    """Property and value, as text: `{"switch": "true"}`."""

    model_config = {"json_schema_extra": {"examples": [{"switch": "true"}]}}


class DesiredSet(BaseModel):
    """What the Device's spec now says."""

    namespace: str
    name: str
    desired: dict[str, str]
    generation: int
    resource_version: str


class Span(BaseModel):
    """A piece of work of one unit. `parent` may be a span that is not kept: a device's own, or one that was lost."""

    id: str
    parent: str
    unit: str
    node: str = Field(description="empty: a unit of the cloud")
    name: str
    kind: str
    start_ns: int = Field(description="ns since 1970, by the clock of the machine that did it")
    duration_ms: float
    attributes: dict[str, str]
    error: str = Field(description="empty: it went well")


class TraceSummary(BaseModel):
    trace_id: str
    devices: list[str] = Field(description="namespace/name")
    start_ns: int
    duration_ms: float = Field(description="from the first beginning to the last end")
    spans: int
    errors: int
    units: list[str]


class Trace(TraceSummary):
    tree: list[Span] = Field(description="in the order in which they began")


class Traces(BaseModel):
    traces: list[TraceSummary]


class Error(BaseModel):
    code: int
    reason: str
    field: str | None = None


class Errors(BaseModel):
    error: Error


def live_twin(record: TwinRecord) -> LiveTwin:
    return LiveTwin(
        namespace=record.namespace,
        name=record.name,
        node=record.node,
        uid=record.uid,
        state=record.state.state,
        last_online=record.state.last_online,
        received=record.received,
        revision=record.revision,
        twins={
            name: Twin(reported=_value(t.reported), expected=_value(t.expected), type=t.type)
            for name, t in sorted(record.state.twins.items())
        },
        problems=[
            Problem(
                code=p.code,
                reason=p.reason,
                property=p.property,
                since=p.since,
                last_success=p.last_success or None,
            )
            for p in record.state.problems
        ],
    )


def _value(side: Side | None) -> Value | None:
    return None if side is None else Value(value=side.value, timestamp=side.timestamp)


def node_of(name: str, labels: dict[str, str], ready: bool, presence: Presence | None, online: bool) -> Node:
    return Node(
        name=name,
        online=online,
        ready=ready,
        last_heard=presence.at if presence else None,
        version=presence.version if presence else "",
        session=presence.session if presence else 0,
        labels=labels,
        health=presence.health if presence else {},
        units=[unit_of(one) for one in presence.units] if presence else [],
        pending=presence.pending if presence else 0,
    )


def unit_of(health: UnitHealth) -> Unit:
    text = wrong(health)
    return Unit(
        unit=health.unit,
        run=health.run,
        version=health.version,
        well=not text,
        wrong=text,
        silent_since=health.silent_since or None,
        facts=health.facts,
    )
