"""The bodies of `why` and `status` in the fleet API. Only `http` and `whys` use them."""

from typing import Literal

from pydantic import BaseModel, Field


class Step(BaseModel):
    """One step of the way from Kubernetes to the device and back."""

    step: str = Field(description="kubernetes, controller, link, node, devicetwin, mapper, device, desired, status")
    verdict: Literal["ok", "stop", "unknown"]
    text: str
    since: int | None = Field(description="ms since 1970; null: not known")
    tries: list[str] = Field(description="what may help where it stops")


class Why(BaseModel):
    """Why a device does not do what it should."""

    namespace: str
    name: str
    exists: bool
    well: bool = Field(description="nothing stops the way")
    stops_at: Step | None = Field(description="the first step that stops the way")
    steps: list[Step]


class UnitState(BaseModel):
    """All replicas of a unit of the cloud."""

    unit: str
    replicas: int = Field(description="that are heard")
    leader: bool | None = Field(description="one of them leads; null: it needs none")
    wrong: str


class NodeState(BaseModel):
    name: str
    state: Literal["ready", "degraded", "away"]
    since: int | None = Field(description="ms since 1970, when it was last heard; null: never")
    why: str


class Lasting(BaseModel):
    """How long certificates last."""

    node: str = Field(description="empty: in the cloud")
    units: str = Field(description="who bears it; link: the node itself at the hub")
    until: int = Field(description="ms since 1970")
    late: bool = Field(description="it should have been renewed by now, or is over")


class Status(BaseModel):
    """The fleet in one page."""

    well: bool
    units: list[UnitState]
    nodes: dict[str, int] = Field(description="how many nodes are ready, degraded, away")
    troubled_nodes: list[NodeState] = Field(description="the first of those that are not ready")
    devices: dict[str, int] = Field(description="how many devices are in each state; `none`: never heard of")
    troubled_devices: list[str] = Field(description="the first of those that are offline, unhealthy or have a problem")
    troubled_devices_count: int
    waiting: int = Field(description="device states that wait at the edge")
    versions: dict[str, list[str]] = Field(description="versions that run, with who runs them (the first few)")
    identities: list[Lasting] = Field(description="the first certificates to end, late ones before all")
    identities_count: int
    identities_late: int = Field(description="how many should have been renewed by now")
