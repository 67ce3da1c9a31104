"""The JSON that is written about a node: Node, its status, its Lease. And what is read of them. Pure; times in ms.

Called by `handlers.NodeWriter`, and by the informer of `adapters/kube.py` (`read_node`).
"""

import re
from typing import Any

import msgspec

from canopy.contracts.devices import MANAGED
from canopy.contracts.times import micro_time, millis, rfc3339
from canopy.contracts.wire import Presence, encode
from canopy.edgecontroller.core import Healthy, NodeSeen

Json = dict[str, Any]

ROLE = "node-role.kubernetes.io/edge"
TAINT: Json = {"key": "node.canopy.dev/edge", "effect": "NoSchedule"}
LEASE_NAMESPACE = "kube-node-lease"
READY, UNKNOWN = "True", "Unknown"
EDGE_HEALTHY = "EdgeHealthy"
OURS = ("Ready", EDGE_HEALTHY)
MAX_MESSAGE_CHARACTERS = 1000
MOST_LABELS = 32
"""How many of the labels that a node reports are taken."""

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_LABEL_VALUE = re.compile(rf"({_NAME})?")
_QUANTITY = re.compile(r"[0-9]{1,15}(\.[0-9]{1,3})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")
_REPORTED_QUANTITIES = ("cpu", "memory", "ephemeral-storage")


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str = ""
    message: str = ""
    last_heartbeat_time: str | None = None
    last_transition_time: str | None = None


class _Info(msgspec.Struct, rename="camel"):
    kubelet_version: str = ""


class _Status(msgspec.Struct, rename="camel"):
    conditions: list[msgspec.Raw] = []
    node_info: _Info | None = None


class _Node(msgspec.Struct):
    metadata: _Meta
    status: _Status | None = None


class _LeaseSpec(msgspec.Struct, rename="camel"):
    renew_time: str | None = None


class _Lease(msgspec.Struct):
    metadata: _Meta
    spec: _LeaseSpec = msgspec.field(default_factory=_LeaseSpec)


def read_node(raw: bytes) -> NodeSeen:
    """A Node as Kubernetes has it."""
    node = _NODE.decode(raw)
    meta, status = node.metadata, node.status or _Status()
    pairs = [(_CONDITION.decode(c), bytes(c)) for c in status.conditions]
    ready = next((c for c, _ in pairs if c.type == "Ready"), _Condition(type="Ready"))
    healthy = next((c for c, _ in pairs if c.type == EDGE_HEALTHY), _Condition(type=EDGE_HEALTHY))
    return NodeSeen(
        name=meta.name,
        uid=meta.uid,
        managed=meta.labels.get(MANAGED) == "true",
        ready=ready.status,
        ready_since=millis(ready.last_transition_time),
        heartbeat=millis(ready.last_heartbeat_time),
        kubelet=status.node_info.kubelet_version if status.node_info else "",
        labels=meta.labels,
        resource_version=meta.resource_version,
        others=tuple(raw for c, raw in pairs if c.type not in OURS),
        health=(healthy.status, healthy.message),
        health_since=millis(healthy.last_transition_time),
    )


def read_lease(raw: bytes) -> tuple[str, int]:
    """The name of a Lease and its renewTime."""
    lease = _LEASE.decode(raw)
    return lease.metadata.name, millis(lease.spec.renew_time)


def labels_of(presence: Presence, allowed: tuple[str, ...]) -> dict[str, str]:
    """The labels of a node: ours, and of those that it reports the ones that begin as `allowed` says.

    What Kubernetes would not take is left out: one bad label must not keep a node out.
    """
    said = {k: v for k, v in sorted(presence.labels.items()) if k.startswith(allowed) and _is_label(k, v)}
    ours = {ROLE: "", MANAGED: "true"}
    if len(presence.node) <= 63:
        ours["kubernetes.io/hostname"] = presence.node
    return {**dict(list(said.items())[:MOST_LABELS]), **ours}


def _is_label(key: str, value: str) -> bool:
    return bool(_LABEL_KEY.fullmatch(key)) and bool(_LABEL_VALUE.fullmatch(value)) and len(value) <= 63


def kubelet_of(presence: Presence | None) -> str:
    """What stands in the column VERSION; empty if the node did not say."""
    return f"canopy-{presence.version}" if presence and presence.version else ""


def new_node(presence: Presence, labels: dict[str, str], now: int) -> bytes:
    """The Node of a node that was heard just now. Its taint keeps every pod away that does not ask for an edge."""
    return encode(
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": presence.node, "labels": labels},
            "spec": {"taints": [TAINT]},
            "status": {**_said(presence), "conditions": [_ready(READY, now, now, now)]},
        }
    )


def status_patch(node: NodeSeen, ready: bool, since: int, presence: Presence | None, now: int) -> bytes:
    """The merge patch of the status; refused if the Node changed meanwhile, since a merge replaces all conditions.

    While the node is gone the heartbeat stays at when it was last heard.
    """
    word = READY if ready else UNKNOWN
    changed = node.ready_since if node.ready == word and node.ready_since else now
    conditions: list[Any] = [*map(msgspec.Raw, node.others), _ready(word, now if ready else since, changed, since)]
    if (health := _health_now(node, ready, presence))[0]:
        conditions.append(_healthy(health, node, now))
    status = {**(_said(presence) if presence else {}), "conditions": conditions}
    return encode({"metadata": {"resourceVersion": node.resource_version}, "status": status})


def health_of(presence: Presence | None) -> Healthy | None:
    """EdgeHealthy as a node's last word has it; None where it said nothing of its units."""
    if presence is None or not presence.health:
        return None
    wrong = [f"{unit}: {text}" for unit, text in sorted(presence.health.items()) if text != "ok"]
    return ("False", "; ".join(wrong)[:MAX_MESSAGE_CHARACTERS]) if wrong else ("True", "all units are well")


def _health_now(node: NodeSeen, ready: bool, presence: Presence | None) -> Healthy:
    """As it was where the node says nothing of it; nobody knows while it is gone."""
    if not ready:
        return (UNKNOWN, "the node is not heard") if node.health[0] else node.health
    return health_of(presence) or node.health


def _healthy(health: Healthy, node: NodeSeen, now: int) -> Json:
    status, message = health
    since = node.health_since if node.health[0] == status and node.health_since else now
    return {
        "type": EDGE_HEALTHY,
        "status": status,
        "reason": {"True": "UnitsAreWell", "False": "UnitsAreNotWell"}.get(status, "NodeStatusUnknown"),
        "message": message,
        "lastHeartbeatTime": rfc3339(now),
        "lastTransitionTime": rfc3339(since),
    }


def _ready(word: str, heartbeat: int, changed: int, since: int) -> Json:
    gone = f"the node was last heard {rfc3339(since)}" if since else "the node has not been heard"
    return {
        "type": "Ready",
        "status": word,
        "reason": "EdgeHeard" if word == READY else "NodeStatusUnknown",
        "message": "the edge answers" if word == READY else gone,
        "lastHeartbeatTime": rfc3339(heartbeat) or None,
        "lastTransitionTime": rfc3339(changed),
    }


def _said(presence: Presence) -> Json:
    """What the node says of itself. No pods fit there until something runs them."""
    said = {k: v for k, v in presence.capacity.items() if k in _REPORTED_QUANTITIES and _QUANTITY.fullmatch(v)}
    room = {**said, "pods": "0"}
    unknown = ("machineID", "systemUUID", "bootID", "kernelVersion", "containerRuntimeVersion", "kubeProxyVersion")
    info = {
        **dict.fromkeys(unknown, ""),
        "osImage": "Canopy edge",
        "kubeletVersion": kubelet_of(presence),
        "operatingSystem": presence.labels.get("kubernetes.io/os", "linux"),
        "architecture": presence.labels.get("kubernetes.io/arch", ""),
    }
    address = {"type": "Hostname", "address": presence.node}
    return {"capacity": room, "allocatable": room, "nodeInfo": info, "addresses": [address]}


def new_lease(node: NodeSeen, seconds: int, at: int) -> bytes:
    """The Lease of a node, which goes with its Node."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": node.name, "uid": node.uid}
    meta = {"name": node.name, "namespace": LEASE_NAMESPACE, "labels": {MANAGED: "true"}, "ownerReferences": [owner]}
    spec = {"holderIdentity": node.name, "leaseDurationSeconds": seconds, "renewTime": micro_time(at)}
    return encode({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": spec})


def lease_patch(at: int) -> bytes:
    return encode({"spec": {"renewTime": micro_time(at)}})


def labels_patch(labels: dict[str, str]) -> bytes:
    return encode({"metadata": {"labels": labels}})


_NODE = msgspec.json.Decoder(_Node)
_CONDITION = msgspec.json.Decoder(_Condition)
_LEASE = msgspec.json.Decoder(_Lease)
