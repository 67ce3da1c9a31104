"""The words of `why`: what is known of a device's path (`Facts`), what is said of each step (`Step`). Pure."""

from dataclasses import dataclass
from typing import Literal

from canopy.contracts.devices import Device, DeviceModel, DeviceStatus
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import Presence, TwinRecord, UnitHealth

MQTT = ("", "mqtt")
"""Protocols of devices that speak to the node's MQTT port themselves."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A Node of Kubernetes. `managed`: EdgeController made it; `since` is when Ready became what it is, in ms."""

    managed: bool
    ready: bool
    since: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What could be gathered; times in ms. `node` is None where Kubernetes has none or (`node_hidden`) does not say.

    `names`, `models` and `nodes` are what there is, for a name that there is not; `cloud` are the units of the cloud,
    `record` the live twin.
    """

    namespace: str
    name: str
    now: int
    device: Device | None = None
    kube_error: str = ""
    names: tuple[str, ...] = ()
    model: DeviceModel | None = None
    models: tuple[str, ...] = ()
    node: NodeFacts | None = None
    node_hidden: bool = False
    nodes: tuple[str, ...] = ()
    presence: Presence | None = None
    fresh_ms: int = 40_000
    cloud: tuple[UnitHealth, ...] = ()
    record: TwinRecord | None = None
    status: DeviceStatus | None = None

    @property
    def on(self) -> str:
        """The node that the Device names."""
        return self.device.spec.node_name if self.device else ""

    @property
    def model_name(self) -> str:
        reference = self.device.spec.device_model_ref if self.device else None
        return reference.name if reference else ""

    @property
    def protocol(self) -> str:
        """What the device speaks, in small letters."""
        own = self.device.spec.protocol.protocol_name if self.device else ""
        return (own or (self.model.spec.protocol if self.model else "")).lower()

    def topic(self, subject: AnySubject) -> str:
        """The device's MQTT topic."""
        return subject.pattern.replace(".", "/").format(namespace=self.namespace, name=self.name)

    @property
    def speaks_itself(self) -> bool:
        """No mapper is meant to serve it."""
        return self.protocol in MQTT and not self.mappers

    @property
    def mappers(self) -> list[UnitHealth]:
        """The mappers of the device's protocol on its node."""
        units = self.presence.units if self.presence else []
        return [one for one in units if one.unit == "mapper" and one.facts.get("protocol", "").lower() == self.protocol]

    @property
    def online(self) -> bool:
        return self.presence is not None and self.now - self.presence.at <= self.fresh_ms


@dataclass(frozen=True, slots=True)
class Step:
    """One step. `since` (ms; 0: not known) is when it began to be so; `tries` is what may help where it stops."""

    name: str
    verdict: Literal["ok", "stop", "unknown"]
    text: str
    since: int = 0
    tries: tuple[str, ...] = ()


def ok(name: str, text: str, since: int = 0) -> Step:
    return Step(name, "ok", text, since)


def unknown(name: str, text: str, since: int = 0) -> Step:
    return Step(name, "unknown", text, since)


def stop(name: str, text: str, since: int = 0, tries: tuple[str, ...] = ()) -> Step:
    return Step(name, "stop", text, since, tries)
