"""What the component `identity` wants before, for `kubectl apply -f -`. Keys that are there already stay.

    .venv/bin/python deploy/k8s/identity.py --trust-domain canopy.test | kubectl apply -f -

Secret canopy-hub-keys: the nkeys of spire_integration at the hub, and the root of the join endpoint, which every node
keeps (back it up). ConfigMap canopy-hub-nkeys: their public halves, for the hub. ConfigMap canopy-entries: whom SPIRE
knows; of nodes those that bear the label for an edge, so run it again after another one was labelled.
"""

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity import joinroot
from canopy.identity.hubkeys import HubKeys

NAMESPACE, EDGE_NAMESPACE = "canopy", "canopy-edge"
KEYS, NKEYS, ENTRIES = "canopy-hub-keys", "canopy-hub-nkeys", "canopy-entries"
RUNS_EDGE = "node.canopy.dev/runs-edge=true"
HUB_NAMES = ("nats", "nats.canopy", "nats.canopy.svc", *(f"nats-{i}.nats-servers" for i in range(3)))
AGENTS = "agents"
"""Whom agents are called by in entries: all of them, and each by its node below."""
HUB_SECONDS = 2 * 86400
"""The hub's certificate lasts: at each renewal, after half of it, all come anew to that server."""
KUBECTL_SECONDS = 30

Json = dict[str, Any]


def manifests(there: dict[str, bytes], nodes: Iterable[str], hub_names: Iterable[str], trust_domain: str) -> Json:
    """All three. `there` is what the Secret holds, by key."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, value in there.items():
            (folder / name).write_bytes(value)
        keys = HubKeys.ensure(folder)
        joinroot.at(folder, trust_domain, time.time())
        data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in sorted(folder.iterdir())}
    public = {name: getattr(keys, name).public for name in ("issuer", "auth", "cloud", "sys")}
    items = [
        _manifest("Secret", KEYS, type="Opaque", data=data),
        _manifest("ConfigMap", NKEYS, data=public),
        _manifest("ConfigMap", ENTRIES, data=entries(sorted(nodes), tuple(hub_names))),
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def entries(nodes: list[str], hub_names: tuple[str, ...]) -> dict[str, str]:
    """`first`, which the SPIRE server's pod registers, and `entries.json`, which spire_integration keeps. The hub is in
    both; agents' names and spire_integration itself it does not touch."""
    listed = [_entry(f"/cloud/{unit}", AGENTS, NAMESPACE, unit) for unit in CLOUD_UNITS]
    own = _entry("/cloud/spire_integration", AGENTS, NAMESPACE, "spire-integration")
    hub = {**_entry("/hub", AGENTS, NAMESPACE, "nats"), "dns": list(hub_names), "ttl_seconds": HUB_SECONDS}
    listed += [hub, *(_entry(f"/node/{node}", f"{AGENTS}/{node}", EDGE_NAMESPACE, "edge") for node in nodes)]
    cluster = "node parent:spire/server k8s_psat:cluster:canopy"
    first = [f"{AGENTS} {cluster}", *(f"{AGENTS}/{n} {cluster} k8s_psat:agent_node_name:{n}" for n in nodes)]
    first += [_line(own), _line(hub)]
    return {"first": "\n".join(first) + "\n", "entries.json": json.dumps(listed, indent=1) + "\n"}


def _entry(path: str, agent: str, namespace: str, account: str) -> Json:
    return {"path": path, "parent": f"/{agent}", "selectors": [f"k8s:ns:{namespace}", f"k8s:sa:{account}"]}


def _line(entry: Json) -> str:
    words = [entry["path"][1:], f"parent:{entry['parent'][1:]}", *entry["selectors"]]
    ttl = [f"ttl:{entry['ttl_seconds']}"] if "ttl_seconds" in entry else []
    return " ".join([*words, *(f"dns:{name}" for name in entry.get("dns", ())), *ttl])


def _manifest(kind: str, name: str, **more: Any) -> Json:
    meta = {"name": name, "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "canopy"}}
    return {"apiVersion": "v1", "kind": kind, "metadata": meta, **more}


def asked(context: str, *what: str) -> Json:
    """What kubectl gets. Raises CalledProcessError: new keys in place of what is there would lock everybody out."""
    command = ["kubectl", *(["--context", context] if context else []), "get", *what, "-o", "json"]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=KUBECTL_SECONDS)
    found: Json = json.loads(ended.stdout or "{}")
    return found


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trust-domain", default="canopy.test", help="of the fleet, as in trust.env")
    parser.add_argument("--hub-names", default="", help="more names by which leaves know the hub, with commas")
    parser.add_argument("--context", default="", help="a context of your kubeconfig; else the current one")
    given = parser.parse_args()
    try:
        secret = asked(given.context, "secret", KEYS, "-n", NAMESPACE, "--ignore-not-found").get("data") or {}
        nodes = [node["metadata"]["name"] for node in asked(given.context, "nodes", "-l", RUNS_EDGE)["items"]]
    except (OSError, subprocess.SubprocessError) as e:
        sys.stderr.write(f"identity.py: the cluster does not say what it has: {e}\n")
        return 1
    there = {name: base64.b64decode(value) for name, value in secret.items()}
    names = (*HUB_NAMES, *filter(None, given.hub_names.split(",")))
    sys.stdout.write(json.dumps(manifests(there, nodes, names, given.trust_domain), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
