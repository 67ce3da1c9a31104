"""What identities on Kubernetes hang on, as manifests; keys that are there already stay. `secrets` reads and prints.

Secret canopy-hub-keys: the nkeys of spire_integration at the hub, and the root of the join endpoint, which every node
keeps. ConfigMap canopy-hub-nkeys: their public halves, for the hub. ConfigMap canopy-entries: whom SPIRE knows. Secret
canopy-passwords: what no certificate says.
"""

import base64
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from canopy.bus.config import ROUTE
from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity import joinroot

NAMESPACE = "canopy"
KEYS, NKEYS, ENTRIES = "canopy-hub-keys", "canopy-hub-nkeys", "canopy-entries"
PASSWORDS = "canopy-passwords"
WITH_PASSWORD = (ROUTE, "redis")
"""The hub's servers among themselves, beside mTLS; Redis."""
RUNS_EDGE = "node.canopy.dev/runs-edge=true"
HUB_NAMES = ("nats", "nats.canopy", "nats.canopy.svc", *(f"nats-{i}.nats-servers" for i in range(3)))
CLOUD_AGENTS, EDGE_AGENTS = "cloud-agents", "edge-agents"
"""What agents are called in entries: all that may fetch the cloud's units; below the other, by its node, each beside an
edge. To SPIRE they are two clusters, each with an account of its own: no agent is both."""
EDGE_USER = "unix:uid:65532"
"""Whoever reaches the socket of an edge's agent is this, or has the node anyway."""
HUB_SECONDS = 2 * 86400
"""The hub's certificate lasts: at each renewal, after half of it, that server asks again about all its clients."""
LABELS = {"app.kubernetes.io/part-of": "canopy"}

Json = dict[str, Any]


def manifests(there: Mapping[str, bytes], nodes: Iterable[str], hub_names: Iterable[str], td: str) -> Json:
    """Those of identities. `there` is what the Secret holds, by key; BadNkey, BadSvid, NoKeys for something else."""
    data, public = _keys(there, td)
    items = [
        _secret(KEYS, data),
        _manifest("ConfigMap", NKEYS, data=public),
        _manifest("ConfigMap", ENTRIES, data=entries(sorted(nodes), tuple(hub_names))),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def passwords(there: Mapping[str, bytes], new: Callable[[], str]) -> Json:
    """The Secret of passwords. `there` is what it holds; `new` makes one."""
    return _secret(PASSWORDS, {user: there.get(user) or new().encode() for user in WITH_PASSWORD})


def entries(nodes: list[str], hub_names: tuple[str, ...]) -> dict[str, str]:
    """`first`, which the SPIRE server's pod registers, and `entries.json`, which spire_integration keeps. The hub is in
    both; agents' names and spire_integration itself it does not touch."""
    listed = [_of_the_cloud(f"/cloud/{unit}", unit) for unit in CLOUD_UNITS]
    own = _of_the_cloud("/cloud/spire_integration", "spire-integration")
    hub = {**_of_the_cloud("/hub", "nats"), "dns": list(hub_names), "ttl_seconds": HUB_SECONDS}
    listed += [hub, *(_entry(f"/node/{node}", f"{EDGE_AGENTS}/{node}", EDGE_USER) for node in nodes)]
    psat = "node parent:spire/server k8s_psat:cluster"
    first = [f"{CLOUD_AGENTS} {psat}:canopy k8s_psat:agent_sa:spire-agent"]
    edge = f"{psat}:canopy-edge k8s_psat:agent_sa:spire-agent-edge"
    first += [f"{EDGE_AGENTS}/{node} {edge} k8s_psat:agent_node_name:{node}" for node in nodes]
    first += [_line(own), _line(hub)]
    return {"first": "\n".join(first) + "\n", "entries.json": json.dumps(listed, indent=1) + "\n"}


def _keys(there: Mapping[str, bytes], td: str) -> tuple[dict[str, bytes], dict[str, str]]:
    """The Secret's values, and the public nkeys."""
    from canopy.identity.hubkeys import FILES, HubKeys  # only here: a node's command line has no library for nkeys

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, value in there.items():
            (folder / name).write_bytes(value)
        keys = HubKeys.ensure(folder)
        joinroot.at(folder, td, time.time())
        data = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    names = ("issuer", *(name.removesuffix(".seed") for name in FILES[1:]))
    return data, dict(zip(names, keys.public, strict=True))


def _of_the_cloud(path: str, account: str) -> Json:
    return _entry(path, CLOUD_AGENTS, f"k8s:ns:{NAMESPACE}", f"k8s:sa:{account}")


def _entry(path: str, agent: str, *selectors: str) -> Json:
    return {"path": path, "parent": f"/{agent}", "selectors": list(selectors)}


def _line(entry: Json) -> str:
    words = [entry["path"][1:], f"parent:{entry['parent'][1:]}", *entry["selectors"]]
    ttl = [f"ttl:{entry['ttl_seconds']}"] if "ttl_seconds" in entry else []
    return " ".join([*words, *(f"dns:{name}" for name in entry.get("dns", ())), *ttl])


def _secret(name: str, values: Mapping[str, bytes]) -> Json:
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return _manifest("Secret", name, type="Opaque", data=data)


def _manifest(kind: str, name: str, **more: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS},
    } | more
