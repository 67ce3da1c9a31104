"""Whether a Device can get to its node: the condition Ready in its status, and the Event that says so. Pure.

Called by the leader (`lead.py`) for every Device that changed, and whose model or node did.
"""

from dataclasses import dataclass

from canopy.contracts.devices import API_VERSION, DEVICE, Condition
from canopy.contracts.wire import encode
from canopy.devicecontroller.objects import MAX_OBJECT_BYTES, Seen

READY = "Ready"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is one word, `message` says what would be right."""

    ready: bool
    reason: str
    message: str


def judge(device: Seen, model: Seen | None, node_known: bool) -> Verdict:
    """What keeps the Device from its node, the first that applies."""
    if not device.node:
        return Verdict(False, "NoNode", "spec.nodeName is empty: name the node that the device hangs on")
    if device.put is None:
        return Verdict(False, "TooBig", _too_big(device))
    if not device.model:
        return Verdict(False, "NoModel", "spec.deviceModelRef.name is empty: name a DeviceModel of this namespace")
    if model is None:
        return Verdict(False, "ModelNotFound", f"spec.deviceModelRef.name: no DeviceModel {device.model!r} here")
    if model.put is None:
        return Verdict(False, "ModelTooBig", _too_big(model))
    if not node_known:
        return Verdict(False, "NodeNotFound", f"spec.nodeName: no Node {device.node!r}; it appears when the edge joins")
    return Verdict(True, "Placed", f"node {device.node} is to have it")


def _too_big(seen: Seen) -> str:
    return f"{seen.kind} {seen.name} has {seen.size_bytes} bytes; the most that goes to a node is {MAX_OBJECT_BYTES}"


def conditions_of(device: Seen, verdict: Verdict, now: str) -> tuple[Condition, ...] | None:
    """The Device's conditions as they should be; None if they are so."""
    old = next((c for c in device.conditions if c.type == READY), None)
    status = "True" if verdict.ready else "False"
    since = old.last_transition_time if old and old.status == status else now
    new = Condition(
        type=READY,
        status="True" if verdict.ready else "False",
        reason=verdict.reason,
        message=verdict.message,
        last_transition_time=since or now,
        observed_generation=device.generation,
    )
    return None if new == old else (*(c for c in device.conditions if c.type != READY), new)


def patch(device: Seen, conditions: tuple[Condition, ...]) -> bytes:
    """The merge patch of the Device's status; refused if the Device has changed meanwhile."""
    status = {"conditions": conditions, "observedGeneration": device.generation}
    return encode({"metadata": {"resourceVersion": str(device.revision)}, "status": status})


def turned(device: Seen, verdict: Verdict) -> bool:
    """True if the verdict is a refusal that the Device does not bear yet: worth an Event."""
    old = next((c for c in device.conditions if c.type == READY), None)
    return not verdict.ready and (old is None or old.reason != verdict.reason)


def event(seen: Seen, reason: str, message: str, now: str, instance: str) -> bytes:
    """A warning about a Device or DeviceModel."""
    about = {
        "apiVersion": API_VERSION,
        "kind": seen.kind,
        "namespace": seen.namespace,
        "name": seen.name,
        "uid": seen.uid,
        "resourceVersion": str(seen.revision),
    }
    return encode(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{seen.name[:200]}.", "namespace": seen.namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": "Warning",
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "canopy-devicecontroller"},
            "reportingComponent": "canopy-devicecontroller",
            "reportingInstance": instance[:128],
        }
    )


def too_big(model: Seen) -> Verdict | None:
    """A DeviceModel has no status: only an Event can say that it is refused."""
    return Verdict(False, "TooBig", _too_big(model)) if model.put is None and model.kind != DEVICE else None
