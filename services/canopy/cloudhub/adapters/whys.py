"""Gathers what `why` and `status` go by: what Kubernetes shows the caller, presence, live twins, health of the cloud.

`http` calls it. Nothing of the fleet is told to whom Kubernetes does not show the Device (why) or the Nodes (status).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TypeVar

import msgspec

from canopy.bus.healths import Read
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.cloudhub import summary, why
from canopy.cloudhub.adapters import why_bodies
from canopy.cloudhub.adapters.fleet import Fleet, Where, key_of
from canopy.cloudhub.adapters.shapes import Condition, Named
from canopy.cloudhub.live import Live
from canopy.cloudhub.steps import Facts, NodeFacts, Step
from canopy.contracts.devices import MANAGED, Device, DeviceModel, DeviceStatus
from canopy.contracts.times import millis
from canopy.contracts.wire import Presence, TwinRecord
from canopy.kube.api import Kube
from canopy.kube.errors import Forbidden, KubeError, NotFound, Unavailable
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES, Resource
from canopy.runtime.clock import Clock

KUBERNETES_SECONDS = 4.0
MOST_NAMES = 1000
T = TypeVar("T")


class Whys:
    """`units` is the health of the cloud's units as this replica hears it; a node is fresh for `fresh_ms`."""

    def __init__(self, fleet: Fleet, live: Live, units: Read, clock: Clock, fresh_ms: int) -> None:
        self._fleet, self._live, self._units, self._clock, self._fresh_ms = fleet, live, units, clock, fresh_ms

    async def of(self, kube: Kube, where: Where) -> why_bodies.Why:
        """Raises what Kubernetes says to the caller, except that it does not answer: that is the verdict then."""
        where.check()
        facts = Facts(where.namespace, where.name, self._clock.now_ms(), fresh_ms=self._fresh_ms)
        try:
            async with asyncio.timeout(KUBERNETES_SECONDS):
                facts = await self._gathered(kube, facts)
        except (Unavailable, TimeoutError) as e:
            why_not = str(e) or f"no answer within {KUBERNETES_SECONDS:g} s"
            facts = replace(facts, kube_error=why_not[:160])
        if facts.device is not None:
            facts = await self._with_what_nodes_said(facts, facts.device)
        return _why(facts, why.judge(facts))

    async def _gathered(self, kube: Kube, facts: Facts) -> Facts:
        device = await _one(kube, DEVICES, facts.namespace, facts.name, Device)
        if device is None:
            return replace(facts, names=await _names(kube, DEVICES, facts.namespace))
        facts = replace(facts, device=device, cloud=tuple(self._units()))
        facts, status = await asyncio.gather(
            self._placed(kube, facts), _one(kube, DEVICE_STATUSES, facts.namespace, facts.name, DeviceStatus)
        )
        return replace(facts, status=status)

    async def _with_what_nodes_said(self, facts: Facts, device: Device) -> Facts:
        """Not of Kubernetes: what the hub holds, so that its slowness is not taken for Kubernetes'."""
        presence = await self._live.presence(facts.on)
        return replace(facts, presence=presence, record=await self._record(device))

    async def _placed(self, kube: Kube, facts: Facts) -> Facts:
        """With the model and the node, or the names of those that there are."""
        if facts.model_name:
            model = await _one(kube, DEVICE_MODELS, facts.namespace, facts.model_name, DeviceModel)
            names = () if model else await _names(kube, DEVICE_MODELS, facts.namespace)
            facts = replace(facts, model=model, models=names)
        try:
            node = await _one(kube, NODES, "", facts.on, Named) if facts.on else None
            nodes = () if node else await _names(kube, NODES, "")
        except Forbidden:
            return replace(facts, node_hidden=True)
        return replace(facts, node=_node(node) if node else None, nodes=nodes)

    async def _record(self, device: Device) -> TwinRecord | None:
        try:
            return (await self._fleet.twins([device])).get(key_of(device))
        except (AskFailed, StreamError, TimeoutError):
            return None

    async def status(self, kube: Kube) -> why_bodies.Status:
        """For those who may list Nodes and Devices."""
        listed = [msgspec.json.decode(item, type=Named) for item in (await kube.list(NODES)).items]
        devices = await self._fleet.listed(kube, Where())
        twins, now = await self._fleet.twins(devices), self._clock.now_ms()
        presences = await self._live.presences(now)
        found = summary.tally(
            self._units(),
            [_seen(node, presences) for node in listed if _counts(node, presences)],
            [("/".join(key_of(d)), twins.get(key_of(d))) for d in devices],
            now,
            self._fresh_ms,
        )
        nodes = [why_bodies.NodeState(**{**asdict(n), "since": n.since or None}) for n in found.troubled_nodes]
        return why_bodies.Status(**{**asdict(found), "troubled_nodes": nodes}, well=found.well)


def _seen(node: Named, presences: Mapping[str, Presence]) -> tuple[str, bool, Presence | None]:
    return node.metadata.name, _node(node).ready, presences.get(node.metadata.name)


def _counts(node: Named, presences: Mapping[str, Presence]) -> bool:
    """A kubelet's Node is none of ours, unless an edge was heard there."""
    return node.metadata.labels.get(MANAGED) == "true" or node.metadata.name in presences


async def _one(kube: Kube, resource: Resource, namespace: str, name: str, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(await kube.get(resource, namespace, name), type=kind)
    except NotFound:
        return None


async def _names(kube: Kube, resource: Resource, namespace: str) -> tuple[str, ...]:
    """What there is, for a hint; nothing where the caller may not know."""
    try:
        found = (await kube.list(resource, namespace)).items[:MOST_NAMES]
    except Unavailable:
        raise
    except KubeError:
        return ()
    return tuple(msgspec.json.decode(item, type=Named).metadata.name for item in found)


def _node(node: Named) -> NodeFacts:
    ready = next((c for c in node.status.conditions if c.type == "Ready"), Condition())
    managed = node.metadata.labels.get(MANAGED) == "true"
    return NodeFacts(managed, ready.status == "True", millis(ready.last_transition_time))


def _why(facts: Facts, verdict: why.Verdict) -> why_bodies.Why:
    return why_bodies.Why(
        namespace=facts.namespace,
        name=facts.name,
        exists=facts.device is not None or bool(facts.kube_error),
        well=verdict.stops is None,
        stops_at=_step(verdict.stops) if verdict.stops else None,
        steps=[_step(step) for step in verdict.steps],
    )


def _step(step: Step) -> why_bodies.Step:
    return why_bodies.Step(
        step=step.name, verdict=step.verdict, text=step.text, since=step.since or None, tries=list(step.tries)
    )
