"""What the identities of a deployment on Kubernetes hang on: whom SPIRE is told to know is who runs there; the hub
takes its file; and what is made before is complete, and kept."""

import base64
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import registered
from rendering import K8S, Manifests, no_kubectl, render

from canopy.cli import kubekeys
from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity import ids
from canopy.identity.hubkeys import HubKeys
from canopy.identity.joinroot import endpoint, new
from canopy.spire_integration import entries
from canopy.testing.servers import nats_binary

TD = "fleet.test"
AGENTS = ("spire-agent", "spire-agent-edge")


@pytest.fixture(scope="module")
def trusted() -> Manifests:
    if missing := no_kubectl():
        pytest.skip(missing)
    return render("ci")


def listed(nodes: list[str]) -> list[entries.Entry]:
    return list(entries.read(kubekeys.entries(nodes, kubekeys.HUB_NAMES)["entries.json"].encode(), TD))


def test_every_unit_of_the_cloud_the_hub_and_each_node_has_an_entry_and_nobody_else() -> None:
    found = {entry.id for entry in listed(["a", "b.c"])}
    units = {ids.cloud(TD, unit) for unit in CLOUD_UNITS}  # spire_integration is registered first, and kept by nobody
    assert found == units | {ids.hub(TD), ids.node(TD, "a"), ids.node(TD, "b.c")}


def test_an_entry_means_the_pods_of_one_workload(trusted: Manifests) -> None:
    for entry in listed(["worker-1"]):
        if entry.id.segments[0] == "node":
            continue
        found = dict(selector.split(":", 2)[1:] for selector in entry.selectors)
        pods = [p for p in trusted.pods if (p.namespace, p.spec["serviceAccountName"]) == (found["ns"], found["sa"])]
        of = "nats" if entry.id.segments[0] == "hub" else entry.id.segments[-1].replace("_", "-")
        assert {p.name for p in pods} == {of}, entry.id


def test_only_the_agent_beside_the_edge_of_a_node_gets_that_node_s_certificate_and_no_other() -> None:
    first = registered.words(kubekeys.entries(["a", "b"], ())["first"])
    edges = {f"/{kubekeys.EDGE_AGENTS}/{node}": f"k8s_psat:agent_node_name:{node}" for node in ("a", "b")}
    for entry in listed(["a", "b"]):
        if entry.id.segments[0] == "node":
            assert entry.parent.path == f"/{kubekeys.EDGE_AGENTS}/{entry.id.segments[1]}"
        else:
            assert entry.parent.path == f"/{kubekeys.CLOUD_AGENTS}"
    assert {path for path, more in first.items() if "node" in more} == {kubekeys.CLOUD_AGENTS, *(p[1:] for p in edges)}
    for path, selector in edges.items():
        assert {"parent:spire/server", selector} <= first[path[1:]]


def test_no_agent_is_both_of_the_cloud_and_of_an_edge(trusted: Manifests) -> None:
    """An agent is called by its cluster and its node: of one cluster, two on a node would take each other's place."""
    server = (K8S / "base/spire-server/server.conf").read_text()
    first = registered.words(kubekeys.entries(["a"], ())["first"])
    for name, alias in zip(AGENTS, (kubekeys.CLOUD_AGENTS, f"{kubekeys.EDGE_AGENTS}/a"), strict=True):
        cluster = re.findall(r'cluster = "([\w-]+)"', (K8S / "base" / name / "agent.conf").read_text())
        accounts = re.findall(rf'"{cluster[0]}" = {{\s+service_account_allow_list = \["([^]]+)"\]', server)
        pod = next(p for p in trusted.pods if p.name == name)
        assert accounts == [f"{pod.namespace}:{pod.spec['serviceAccountName']}"]
        assert {f"k8s_psat:cluster:{cluster[0]}", f"k8s_psat:agent_sa:{name}"} <= first[alias]


def test_the_sockets_of_the_two_agents_are_apart_and_only_the_edge_reaches_that_of_edges(trusted: Manifests) -> None:
    folders = {
        pod.name: {
            v["hostPath"]["path"] for v in pod.spec["volumes"] if "spire" in v.get("hostPath", {}).get("path", "")
        }
        for pod in trusted.pods
        if pod.kind != "Job"
    }
    cloud, edges = folders.pop(AGENTS[0]), folders.pop(AGENTS[1])
    assert len(cloud) == len(edges) == 1 and cloud != edges
    assert {name: kept for name, kept in folders.items() if kept} == {"edge": edges}


def test_in_production_cloud_units_and_their_agents_run_only_where_somebody_said_so() -> None:
    if missing := no_kubectl():
        pytest.skip(missing)
    label = {"canopy.node-restriction.kubernetes.io/runs-cloud": "true"}
    for pod in render("production").pods:
        of_an_edge = pod.name in ("edge", AGENTS[1])
        assert pod.spec["nodeSelector"] == ({"node.canopy.dev/runs-edge": "true"} if of_an_edge else label), pod.name


def test_what_is_registered_first_is_what_is_kept_later() -> None:
    """Else the two that register would undo each other's work."""
    registered.agree(kubekeys.entries([], kubekeys.HUB_NAMES)["first"], listed([]), TD)


def test_the_hub_s_certificate_has_the_names_by_which_leaves_and_its_servers_look_for_it(trusted: Manifests) -> None:
    known = set(kubekeys.HUB_NAMES)
    leaf = trusted.environment(*_container(trusted, "edge", "edge"))["CANOPY_EDGEIDENTITY_HUB_URL"]
    assert leaf.removeprefix("tls://").split(":")[0] in known
    routes = [v for k, v in trusted.environment(*_container(trusted, "nats", "nats")).items() if "ROUTE_" in k]
    assert {route.rpartition("@")[2].split(":")[0] for route in routes} <= known and len(routes) == 3


def test_nats_server_takes_the_hub_s_file_with_the_keys_that_are_made_before(
    trusted: Manifests, tmp_path: Path
) -> None:
    items = {i["metadata"]["name"]: i for i in kubekeys.manifests({}, [], (), TD)["items"]}
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
    made = {i["metadata"]["name"]: i for i in kubekeys.manifests({}, ["a"], (), TD)["items"]}
    there = {k: base64.b64decode(v) for k, v in made["canopy-hub-keys"]["data"].items()}
    again = {i["metadata"]["name"]: i for i in kubekeys.manifests(there, ["a", "b"], (), TD)["items"]}
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


def test_the_trust_domain_is_one_everywhere(manifests: Manifests) -> None:
    held = [m.get("data", {}) for m in manifests.of("ConfigMap")]
    found = [data["CANOPY_TRUST_DOMAIN"] for data in held if "CANOPY_TRUST_DOMAIN" in data]
    assert len(found) == 3 and len(set(found)) == 1


def _ref(entry: dict[str, Any]) -> bool:
    return "configMapKeyRef" in entry.get("valueFrom", {})


def _container(manifests: Manifests, workload: str, name: str) -> tuple[Any, dict[str, Any]]:
    pod = next(p for p in manifests.pods if p.name == workload)
    return pod, next(c for c in pod.containers if c["name"] == name)


def test_what_is_registered_first_knows_the_pods_of_spire_integration(trusted: Manifests) -> None:
    found = registered.words(kubekeys.entries([], ())["first"])["cloud/spire_integration"]
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
