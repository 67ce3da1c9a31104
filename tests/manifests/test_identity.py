"""What the identities of a deployment on Kubernetes hang on: whom SPIRE is told to know is who runs there; the hub
takes its file; and what is made before is complete, and kept."""

import base64
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import registered
from rendering import K8S, Manifests, no_kubectl, render

from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity import ids
from canopy.identity.hubkeys import HubKeys
from canopy.identity.joinroot import endpoint, new
from canopy.spire_integration import entries
from canopy.testing.servers import nats_binary

TD = "fleet.test"


identity = registered.module(K8S / "identity.py")


@pytest.fixture(scope="module")
def trusted() -> Manifests:
    if missing := no_kubectl():
        pytest.skip(missing)
    return render("ci-identity")


def listed(nodes: list[str]) -> list[entries.Entry]:
    return list(entries.read(identity.entries(nodes, identity.HUB_NAMES)["entries.json"].encode(), TD))


def test_every_unit_of_the_cloud_the_hub_and_each_node_has_an_entry_and_nobody_else() -> None:
    found = {entry.id for entry in listed(["a", "b.c"])}
    units = {ids.cloud(TD, unit) for unit in CLOUD_UNITS}  # spire_integration is registered first, and kept by nobody
    assert found == units | {ids.hub(TD), ids.node(TD, "a"), ids.node(TD, "b.c")}


def test_an_entry_means_the_pods_of_one_workload(trusted: Manifests) -> None:
    for entry in listed(["worker-1"]):
        found = dict(selector.split(":", 2)[1:] for selector in entry.selectors)
        pods = [p for p in trusted.pods if (p.namespace, p.spec["serviceAccountName"]) == (found["ns"], found["sa"])]
        names = {p.name for p in pods if p.kind != "Job"}  # a Job of the overlay makes folders, as the edge's account
        of = {"hub": "nats", "node": "edge"}.get(entry.id.segments[0], entry.id.segments[-1].replace("_", "-"))
        assert names == {of}, entry.id


def test_only_the_agent_of_a_node_gets_that_node_s_certificate() -> None:
    first = registered.words(identity.entries(["a", "b"], ())["first"])
    for entry in listed(["a", "b"]):
        if entry.id.segments[0] == "node":
            node = entry.id.segments[1]
            assert entry.parent.path == f"/agents/{node}"
            assert {"node", "parent:spire/server", f"k8s_psat:agent_node_name:{node}"} <= first[f"agents/{node}"]


def test_what_is_registered_first_is_what_is_kept_later() -> None:
    """Else the two that register would undo each other's work."""
    registered.agree(identity.entries([], identity.HUB_NAMES)["first"], listed([]), TD)


def test_the_hub_s_certificate_has_the_names_by_which_leaves_and_its_servers_look_for_it(trusted: Manifests) -> None:
    known = set(identity.HUB_NAMES)
    leaf = trusted.environment(*_container(trusted, "edge", "edge"))["HUB"]["valueFrom"]["configMapKeyRef"]["name"]
    config = trusted.named("ConfigMap", "canopy-edge", leaf)
    assert config and config["data"]["HUB"].split(":")[0] in known
    routes = [v for k, v in trusted.environment(*_container(trusted, "nats", "nats")).items() if "ROUTE_" in k]
    assert {route.rpartition("@")[2].split(":")[0] for route in routes} <= known and len(routes) == 3


def test_nats_server_takes_the_hub_s_file_with_the_keys_that_are_made_before(
    trusted: Manifests, tmp_path: Path
) -> None:
    items = {i["metadata"]["name"]: i for i in identity.manifests({}, [], (), TD)["items"]}
    pod, container = _container(trusted, "nats", "nats")
    hub = next(v["configMap"]["name"] for v in pod.spec["volumes"] if v["name"] == "config")
    config = trusted.named("ConfigMap", pod.namespace, hub)
    assert config is not None
    pem = endpoint(new(TD, time.time()), TD, time.time())
    (tmp_path / "svid.pem").write_bytes(pem)
    (tmp_path / "bundle.pem").write_bytes(pem[pem.index(b"-----BEGIN CERT") :])
    text = config["data"]["hub.conf"].replace("/var/lib/canopy", str(tmp_path)).replace("/run/canopy", str(tmp_path))
    (tmp_path / "hub.conf").write_text(text)
    given = {k: _valued(v, items) for k, v in trusted.environment(pod, container).items()}
    command = [nats_binary(), "-t", "-c", tmp_path / "hub.conf"]
    ran = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    assert len({given[f"CANOPY_NKEY_{n}"] for n in ("ISSUER", "AUTH", "CLOUD", "SYS")}) == 4


def test_keys_that_are_there_stay_and_pods_find_what_they_mount(trusted: Manifests, tmp_path: Path) -> None:
    made = {i["metadata"]["name"]: i for i in identity.manifests({}, ["a"], (), TD)["items"]}
    there = {k: base64.b64decode(v) for k, v in made["canopy-hub-keys"]["data"].items()}
    again = {i["metadata"]["name"]: i for i in identity.manifests(there, ["a", "b"], (), TD)["items"]}
    assert again["canopy-hub-keys"] == made["canopy-hub-keys"] and again["canopy-hub-nkeys"] == made["canopy-hub-nkeys"]
    for name, value in there.items():
        (tmp_path / name).write_bytes(value)
    assert HubKeys.read(tmp_path).sys.public == made["canopy-hub-nkeys"]["data"]["sys"]
    for pod in trusted.pods:
        named = [v["configMap"]["name"] for v in pod.spec["volumes"] if "configMap" in v]
        named += [
            e["valueFrom"]["configMapKeyRef"]["name"] for c in pod.containers for e in c.get("env", []) if _ref(e)
        ]
        assert all(trusted.named("ConfigMap", pod.namespace, n) or n in made for n in named), (pod.name, named)


def test_nobody_but_spire_integration_mounts_the_keys_of_the_hub(trusted: Manifests) -> None:
    holding = {
        p.name
        for p in trusted.pods
        for v in p.spec["volumes"]
        if v.get("secret", {}).get("secretName") == "canopy-hub-keys"
    }
    assert holding == {"spire-integration"}


@pytest.mark.parametrize("overlay", ["ci-identity", "production"])
def test_the_trust_domain_is_one_everywhere(overlay: str, trusted: Manifests) -> None:
    trusted = render(overlay)
    found = [
        m["data"]["CANOPY_TRUST_DOMAIN"] for m in trusted.of("ConfigMap") if "CANOPY_TRUST_DOMAIN" in m.get("data", {})
    ]
    assert len(found) == 3 and len(set(found)) == 1


def _ref(entry: dict[str, Any]) -> bool:
    return "configMapKeyRef" in entry.get("valueFrom", {})


def _container(manifests: Manifests, workload: str, name: str) -> tuple[Any, dict[str, Any]]:
    pod = next(p for p in manifests.pods if p.name == workload)
    return pod, next(c for c in pod.containers if c["name"] == name)


def test_what_is_registered_first_knows_the_pods_of_spire_integration(trusted: Manifests) -> None:
    found = registered.words(identity.entries([], ())["first"])["cloud/spire_integration"]
    pod, _ = _container(trusted, "spire-integration", "spire-integration")
    assert {f"k8s:ns:{pod.namespace}", f"k8s:sa:{pod.spec['serviceAccountName']}"} <= found


def _valued(value: Any, made: dict[str, Any]) -> str:
    if isinstance(value, str):
        return value
    if ref := value["valueFrom"].get("configMapKeyRef"):
        return str(made[ref["name"]]["data"][ref["key"]])
    return "p0"


def test_the_script_that_registers_first_is_a_script() -> None:
    assert subprocess.run(["sh", "-n", K8S / "base/spire-server/entries.sh"], timeout=30).returncode == 0


def test_without_a_cluster_that_answers_nothing_is_made(tmp_path: Path) -> None:
    """New keys in place of what a cluster has would lock everybody out."""
    command = [sys.executable, K8S / "identity.py"]
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1 and ran.stdout == "" and "does not say" in ran.stderr.splitlines()[-1]
