"""The Secrets that deploy/k8s wants; what is there already is kept. Pure; `secrets` reads and prints."""

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from canopy.bus.config import DEVICES, EDGE, ROUTE, node_files
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS

CLOUD_NAMESPACE, EDGE_NAMESPACE = "canopy", "canopy-edge"
PASSWORDS, NODES = "canopy-passwords", "canopy-nodes"
REDIS = "redis"
USERS = {
    CLOUD_NAMESPACE: (*CLOUD_UNITS, ROUTE, REDIS),
    EDGE_NAMESPACE: (*EDGE_UNITS, EDGE, DEVICES),
}
"""Whose passwords each namespace holds, in its Secret `canopy-passwords`."""

Json = dict[str, Any]
Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Secrets:
    """Each Secret's values by (namespace, name); a Secret that is not there has none."""

    values: Mapping[Key, Mapping[str, str]]

    def of(self, namespace: str, name: str) -> dict[str, str]:
        return dict(self.values.get((namespace, name), {}))

    @property
    def nodes(self) -> dict[str, str]:
        """The password of each node at the hub."""
        return {k: v for k, v in self.of(CLOUD_NAMESPACE, NODES).items() if not k.endswith(".conf")}


def wanted(
    there: Secrets, nodes: Iterable[str], forgotten: Iterable[str], kubelets: Iterable[str], new: Callable[[], str]
) -> Secrets:
    """All four. `nodes` get a password if they have none, `forgotten` lose theirs; what `kubelets` run as well, the
    DaemonSet's pods are given, and no other node's. `new` makes a password."""
    left = {n: p for n, p in there.nodes.items() if n not in set(forgotten)}
    hub = left | {n: new() for n in nodes if n not in left}
    own = {n: p for n, p in hub.items() if n in set(kubelets)}
    found: dict[Key, Mapping[str, str]] = {
        (space, PASSWORDS): {u: there.of(space, PASSWORDS).get(u) or new() for u in users}
        for space, users in USERS.items()
    }
    found[CLOUD_NAMESPACE, NODES] = hub | node_files(hub)
    found[EDGE_NAMESPACE, NODES] = own
    return Secrets(found)


def manifests(secrets: Secrets) -> Json:
    """What `kubectl apply -f -` takes."""
    items = [_manifest(space, name, values) for (space, name), values in sorted(secrets.values.items())]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _manifest(namespace: str, name: str, values: Mapping[str, str]) -> Json:
    meta = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "canopy"}}
    data = {k: base64.b64encode(v.encode()).decode() for k, v in sorted(values.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}


def read(listed: Iterable[Json]) -> Secrets:
    """Secrets as Kubernetes has them."""
    return Secrets({(s["metadata"]["namespace"], s["metadata"]["name"]): _decoded(s.get("data") or {}) for s in listed})


def _decoded(data: Mapping[str, str]) -> dict[str, str]:
    return {k: base64.b64decode(v).decode() for k, v in data.items()}
