"""How the objects of an overlay hang together, and the same few names in every base."""

import pytest
import yaml
from rendering import K8S, OVERLAYS, Json, Manifests

BASES = sorted(p for p in (K8S / "base").iterdir() if p.is_dir())
RUNS = [p for p in BASES if (p / "workload.yaml").exists()]
NAMES = {"kustomization.yaml", "workload.yaml", "rbac.yaml", "service.yaml", "pdb.yaml"}
OF_AGENTS = {"socket.yaml"}
CONFIGURATIONS = {"hub.conf", "server.conf", "agent.conf", "entries.sh"}


@pytest.mark.parametrize("base", RUNS, ids=lambda p: p.name)
def test_a_base_has_the_same_few_file_names_as_every_other(base) -> None:
    files = {p.name for p in base.iterdir()}
    more = OF_AGENTS if base.name == "spire-agent" else set()
    assert {"kustomization.yaml", "workload.yaml", "rbac.yaml"} <= files <= NAMES | CONFIGURATIONS | more
    listed = set(yaml.safe_load((base / "kustomization.yaml").read_text())["resources"])
    assert listed == files - {"kustomization.yaml"} - CONFIGURATIONS


def test_every_base_and_component_is_in_an_overlay() -> None:
    base = yaml.safe_load((K8S / "base/kustomization.yaml").read_text())["resources"]
    assert {p.name for p in BASES} == set(base)
    used = [yaml.safe_load(p.read_text()) for p in (K8S / "overlays").glob("*/kustomization.yaml")]
    assert {c for overlay in used for c in overlay["components"]} == {
        f"../../components/{p.name}" for p in (K8S / "components").iterdir()
    }


def test_every_selector_means_pods(manifests: Manifests) -> None:
    for o in manifests.of("Service", "PodDisruptionBudget", "NetworkPolicy"):
        where, name = o["metadata"]["namespace"], o["metadata"]["name"]
        selector = o["spec"].get("podSelector", o["spec"].get("selector"))
        assert manifests.selected(where, selector), f"{o['kind']} {where}/{name} means no pod"


def test_a_workload_selects_its_own_pods_and_no_others(manifests: Manifests) -> None:
    for o in manifests.of("Deployment", "StatefulSet", "DaemonSet"):
        found = manifests.selected(o["metadata"]["namespace"], o["spec"]["selector"])
        assert [p.name for p in found] == [o["metadata"]["name"]]


def test_every_port_of_a_service_is_a_named_port_of_its_pods(manifests: Manifests) -> None:
    for service in manifests.of("Service"):
        for pod in manifests.selected(service["metadata"]["namespace"], service["spec"]["selector"]):
            ports = {p["name"] for c in pod.containers for p in c.get("ports", [])}
            assert {p["targetPort"] for p in service["spec"]["ports"]} <= ports, service["metadata"]["name"]


def test_every_replicated_workload_has_one_budget_that_lets_one_pod_go(manifests: Manifests) -> None:
    for pod in manifests.pods:
        if pod.kind not in ("Deployment", "StatefulSet"):
            continue
        budgets = [b for b in manifests.of("PodDisruptionBudget") if pod in _meant(manifests, b)]
        assert [b["spec"]["maxUnavailable"] for b in budgets] == [1], pod.name


def _meant(manifests: Manifests, o: Json) -> list:
    return manifests.selected(o["metadata"]["namespace"], o["spec"]["selector"])


def test_production_leaves_the_crds_alone_that_a_cluster_may_have() -> None:
    from rendering import render

    found = {name: len(list(render(name).of("CustomResourceDefinition"))) for name in OVERLAYS}
    assert found == {"dev": 3, "ci": 3, "production": 0}


def test_no_secret_is_in_the_manifests(manifests: Manifests) -> None:
    """`canopy secrets` makes them, before."""
    assert list(manifests.of("Secret")) == []


def test_the_cloud_is_under_the_restricted_profile_and_only_edges_and_agents_are_not() -> None:
    from rendering import render

    for overlay in OVERLAYS:
        level = {
            n["metadata"]["name"]: n["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
            for n in render(overlay).of("Namespace")
        }
        assert level == {"canopy": "restricted", "canopy-edge": "privileged", "canopy-spire": "privileged"}


def test_replicas_stand_apart_as_far_as_the_overlay_can() -> None:
    from rendering import render

    for overlay, how in (("production", "required"), ("ci", "preferred")):
        for pod in render(overlay).pods:
            if pod.replicas is None or pod.replicas < 2:
                continue
            affinity = pod.spec["affinity"]["podAntiAffinity"]
            assert list(affinity) == [f"{how}DuringSchedulingIgnoredDuringExecution"], (overlay, pod.name)


def test_a_rolling_update_of_replicas_that_stand_apart_can_go_on() -> None:
    """With one replica a node, a surge would wait for a node that is not there."""
    from rendering import render

    for deployment in render("production").of("Deployment"):
        if deployment["metadata"]["name"] != "traces":
            assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
