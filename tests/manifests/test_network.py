"""NetworkPolicies let through what the catalogue and the units' doors say, and nothing else."""

import ast
from pathlib import Path

import pytest
from asked import rights_of
from reach import OUTSIDE, End, Reach
from rendering import ROOT, Pod, no_kubectl, render

from canopy.contracts.roles import CLOUD_UNITS

WITH_POLICIES = ("ci", "production")


@pytest.fixture(params=WITH_POLICIES)
def reach(request: pytest.FixtureRequest) -> Reach:
    if missing := no_kubectl():
        pytest.skip(missing)
    return Reach(render(request.param))


def imports(unit: str, module: str) -> bool:
    files = (ROOT / "services/canopy" / unit).rglob("*.py")
    return any(module in _imported(path) for path in files if "tests" not in path.parts)


def _imported(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module}


def meant(source: Pod, target: Pod) -> set[str]:
    """The ports that `source` needs of `target`, from what the code says."""
    match source.name, target.name:
        case unit, "nats" if unit in (*CLOUD_UNITS, "spire-integration"):
            return {"client"}
        case "spire-integration" | "spire-agent" | "spire-agent-edge", "spire-server":
            return {"api"}
        case "nats", "nats":
            return {"route"}
        case "edge", "nats":
            return {"leaf"}
        case "edge", "light":  # a pod that says that it is a device
            return {"modbus"}
        case unit, "redis" if unit in CLOUD_UNITS and imports(unit, "canopy.store.cache"):
            return {"redis"}
        case unit, "traces" if unit in CLOUD_UNITS and imports(unit, "canopy.runtime.telemetry.otlp"):
            return {"otlp"}
    return set()


def test_a_pod_reaches_what_it_needs_and_nothing_else(reach: Reach) -> None:
    pods = reach.manifests.pods
    for source in pods:
        for target in pods:
            assert reach.ports(reach.end(source), target) == meant(source, target), f"{source.name} to {target.name}"


DOORS = {("cloudhub", "api"), ("nats", "leaf"), ("spire-integration", "join"), ("edge", "mqtts")}
"""What is open to everybody; each asks for a certificate or a token."""


def test_who_comes_from_elsewhere_reaches_the_fleet_api_the_link_and_mqtt(reach: Reach) -> None:
    for end in (End("default", {"app": "any"}, {"kubernetes.io/metadata.name": "default"}), End(OUTSIDE, address=True)):
        found = {(p.name, port) for p in reach.manifests.pods for port in reach.ports(end, p)}
        assert found == DOORS


def test_a_namespace_that_says_that_it_looks_on_reads_health_and_metrics_too(reach: Reach) -> None:
    watcher = End("monitoring", {}, {"canopy.dev/monitoring": "true"})
    found = {(p.name, port) for p in reach.manifests.pods for port in reach.ports(watcher, p)}
    looked_at = {("nats", "monitor"), ("edge", "monitor"), ("traces", "ui")}
    looked_at |= {(unit, "health") for unit in (*CLOUD_UNITS, "spire-integration", "edge")}
    there = {(p.name, n["name"]) for p in reach.manifests.pods for c in p.containers for n in c.get("ports", [])}
    assert found == (looked_at & there) | DOORS


def test_only_who_has_rights_in_kubernetes_reaches_it(reach: Reach) -> None:
    for pod in reach.manifests.pods:
        asks = pod.name == "spire-server" or (pod.name in CLOUD_UNITS and bool(rights_of(pod.name)))
        assert ("443" in reach.out(pod)) == asks == ("6443" in reach.out(pod)), pod.name


def test_a_policy_with_rules_says_one_direction(reach: Reach) -> None:
    """kube-router runs the ingress rules of a policy also for what its pods send, unless it is of one direction."""
    ruled = [p["spec"] for p in reach.manifests.of("NetworkPolicy") if {"ingress", "egress"} & p["spec"].keys()]
    assert [spec for spec in ruled if len(spec["policyTypes"]) != 1] == []


def test_every_namespace_of_ours_begins_with_nothing(reach: Reach) -> None:
    spaces = {p.namespace for p in reach.manifests.pods}
    stranger = {name: End(name, {"app": "new"}) for name in spaces}
    for end in stranger.values():
        assert all(not reach.ports(end, p) for p in reach.manifests.pods)
