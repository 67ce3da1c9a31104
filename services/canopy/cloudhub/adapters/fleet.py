"""What the fleet API shows: what Kubernetes shows the caller, joined with presence and live twins. `http` calls it.

A record counts for a Device only if it came from the node that the Device hangs on, and bears its uid: what some other
node claims of it is not shown.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from canopy.cloudhub import desired
from canopy.cloudhub.adapters import bodies
from canopy.cloudhub.adapters.problem import Problem
from canopy.cloudhub.adapters.shapes import Named
from canopy.cloudhub.live import Live
from canopy.contracts.devices import Device, DeviceModel
from canopy.contracts.subject import check_token
from canopy.contracts.wire import Name, TwinRecord
from canopy.kube.api import Kube
from canopy.kube.errors import Conflict, NotFound
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES
from canopy.runtime.clock import Clock
from canopy.runtime.telemetry import current_traceparent

TRIES = 5
NODES_AT_ONCE = 8
BEATS_UNTIL_OFFLINE = 4


class _Status(msgspec.Struct):
    status: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Which devices are meant; empty means all."""

    namespace: str = ""
    name: str = ""
    node: str = ""

    def check(self) -> None:
        """Raise BadToken for what is no Kubernetes name: these words go into paths."""
        for field in ("namespace", "name", "node"):
            if value := getattr(self, field):
                check_token(field, value)

    def covers(self, node: str, key: Name) -> bool:
        wanted = ((self.namespace, key[0]), (self.name, key[1]), (self.node, node))
        return all(not want or want == is_ for want, is_ in wanted)


class Fleet:
    """Every call takes the caller's own Kube, and raises what that raises (KubeError), AskFailed, StreamError."""

    def __init__(self, live: Live, clock: Clock, beat_seconds: float = 10.0) -> None:
        self._live, self._clock = live, clock
        self._fresh_ms = BEATS_UNTIL_OFFLINE * beat_seconds * 1000

    # --- nodes ------------------------------------------------------------------------------------------------------
    async def nodes(self, kube: Kube) -> bodies.Nodes:
        return bodies.Nodes(nodes=await self._nodes((await kube.list(NODES)).items))

    async def node(self, kube: Kube, name: str) -> bodies.Node:
        Where(node=name).check()
        return (await self._nodes([await kube.get(NODES, "", name)]))[0]

    async def _nodes(self, items: Iterable[bytes]) -> list[bodies.Node]:
        now = self._clock.now_ms()
        presences = await self._live.presences(now)
        found = []
        for node in (msgspec.json.decode(item, type=Named) for item in items):
            name, presence = node.metadata.name, presences.get(node.metadata.name)
            ready = any(c.type == "Ready" and c.status == "True" for c in node.status.conditions)
            online = presence is not None and now - presence.at <= self._fresh_ms
            found.append(bodies.node_of(name, node.metadata.labels, ready, presence, online))
        return found

    # --- devices ----------------------------------------------------------------------------------------------------
    async def listed(self, kube: Kube, where: Where) -> list[Device]:
        """The Devices that Kubernetes shows the caller."""
        where.check()
        if where.namespace and where.name:
            items: Iterable[bytes] = [await kube.get(DEVICES, where.namespace, where.name)]
        else:
            items = (await kube.list(DEVICES, where.namespace)).items
        devices = [msgspec.json.decode(item, type=Device) for item in items]
        return [d for d in devices if where.covers(d.spec.node_name, key_of(d))]

    async def devices(self, kube: Kube, where: Where) -> bodies.Devices:
        devices = await self.listed(kube, where)
        twins = await self.twins(devices)
        return bodies.Devices(devices=[_device(d, twins.get(key_of(d))) for d in devices])

    async def twins(self, devices: Iterable[Device]) -> dict[Name, TwinRecord]:
        """The live twins of these Devices."""
        placed = {key_of(d): (d.spec.node_name, d.metadata.uid) for d in devices}
        nodes = sorted({node for node, _ in placed.values() if node})
        slots, found = asyncio.Semaphore(NODES_AT_ONCE), dict[Name, TwinRecord]()

        async def of(node: str) -> None:
            async with slots:
                records = await self._live.of(node)
            found.update({k: r for k, r in records.items() if placed.get(k) == (node, r.uid)})

        await asyncio.gather(*(of(node) for node in nodes))
        return found

    async def device(self, kube: Kube, where: Where) -> bodies.DeviceDetail:
        (device,) = await self.listed(kube, where)
        model, status = await asyncio.gather(self._model(kube, device), _status(kube, where))
        twin = (await self.twins([device])).get(key_of(device))
        facts = _device(device, twin)
        return bodies.DeviceDetail(**dict(facts), properties=_properties(device, model), status=status)

    async def twin(self, kube: Kube, where: Where) -> bodies.LiveTwin:
        (device,) = await self.listed(kube, where)
        twin = (await self.twins([device])).get(key_of(device))
        if twin is None:
            raise Problem(
                404, f"{where.namespace}/{where.name}: its node {device.spec.node_name or '(none)'} has sent no state"
            )
        return bodies.live_twin(twin)

    async def _model(self, kube: Kube, device: Device) -> DeviceModel | None:
        ref = device.spec.device_model_ref
        if ref is None or not ref.name:
            return None
        try:
            return msgspec.json.decode(
                await kube.get(DEVICE_MODELS, device.metadata.namespace, ref.name), type=DeviceModel
            )
        except NotFound:
            return None

    # --- desired ----------------------------------------------------------------------------------------------------
    async def set_desired(self, kube: Kube, where: Where, wanted: Mapping[str, str]) -> bodies.DesiredSet:
        """Check and patch; when someone else changed the Device in between, read it again. Raises WrongValue."""
        where.check()
        for _ in range(TRIES):
            raw = await kube.get(DEVICES, where.namespace, where.name)
            device = msgspec.json.decode(raw, type=Device)
            desired.check(wanted, device, await self._model(kube, device))
            change = desired.patch(msgspec.json.decode(raw), wanted, current_traceparent())
            try:
                after = await kube.patch(DEVICES, where.namespace, where.name, change)
            except Conflict:
                continue
            return _set(msgspec.json.decode(after, type=Device))
        raise Problem(409, f"{where.namespace}/{where.name}: others change this Device again and again; try later")


def key_of(device: Device) -> Name:
    return (device.metadata.namespace, device.metadata.name)


async def _status(kube: Kube, where: Where) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(await kube.get(DEVICE_STATUSES, where.namespace, where.name), type=_Status).status
    except NotFound:
        return None


def _desired(device: Device) -> dict[str, str]:
    return {p.name: p.desired.value for p in device.spec.properties if p.desired is not None}


def _device(device: Device, twin: TwinRecord | None) -> bodies.Device:
    meta, spec = device.metadata, device.spec
    return bodies.Device(
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        node=spec.node_name,
        model=spec.device_model_ref.name if spec.device_model_ref else "",
        protocol=spec.protocol.protocol_name,
        generation=meta.generation,
        desired=_desired(device),
        state=twin.state.state if twin else "",
        twin=bodies.live_twin(twin) if twin else None,
    )


def _properties(device: Device, model: DeviceModel | None) -> list[bodies.Property]:
    of_model = {p.name: p for p in model.spec.properties} if model else {}
    values, found = _desired(device), []
    for name in dict.fromkeys((*of_model, *(p.name for p in device.spec.properties))):
        p = of_model.get(name)
        found.append(
            bodies.Property(
                name=name,
                type=p.type if p else "",
                access_mode=p.access_mode if p else "",
                minimum=p.minimum if p else "",
                maximum=p.maximum if p else "",
                unit=p.unit if p else "",
                desired=values.get(name),
            )
        )
    return found


def _set(device: Device) -> bodies.DesiredSet:
    meta = device.metadata
    return bodies.DesiredSet(
        namespace=meta.namespace,
        name=meta.name,
        desired=_desired(device),
        generation=meta.generation,
        resource_version=meta.resource_version,
    )
