"""What every pod that we deploy keeps to, in every overlay."""

import re
from typing import Any

from rendering import Json, Manifests, Pod

EDGE, AGENTS = "canopy-edge", "canopy-spire"
USER = 65532
SOCKET, EDGE_SOCKET = "/run/canopy-spire/agent", "/run/canopy-spire/edge"
AGENT_SOCKETS = {"spire-agent": SOCKET, "spire-agent-edge": EDGE_SOCKET}


def all_containers(manifests: Manifests) -> list[tuple[Pod, Json]]:
    return [(pod, c) for pod in manifests.pods for c in pod.containers]


def faulty(manifests: Manifests, fault: Any) -> list[str]:
    """pod/container of those in which `fault(pod, container)` finds one, with what it says."""
    found = ((pod, c, fault(pod, c)) for pod, c in all_containers(manifests))
    return [f"{pod.name}/{c['name']}: {said}" for pod, c, said in found if said]


def test_nothing_runs_as_root_but_what_gives_folders_of_the_host_away(manifests: Manifests) -> None:
    def root(pod: Pod, container: Json) -> str:
        whole, own = pod.spec["securityContext"], container["securityContext"]
        if pod.namespace in (EDGE, AGENTS) and container["name"] == "folders":
            return "" if own["capabilities"].get("add") == ["CHOWN"] else "has more than CHOWN"
        user = own.get("runAsUser", whole.get("runAsUser"))
        safe = whole["runAsNonRoot"] and own.get("runAsNonRoot", True) and user == USER
        return "" if safe and "add" not in own["capabilities"] else f"runs as {user}"

    assert faulty(manifests, root) == []


def test_no_container_can_gain_rights_or_write_to_its_image(manifests: Manifests) -> None:
    def loose(pod: Pod, container: Json) -> str:
        context = container["securityContext"]
        closed = (
            context["allowPrivilegeEscalation"] is False
            and context["readOnlyRootFilesystem"] is True
            and context["capabilities"]["drop"] == ["ALL"]
            and not context.get("privileged")
            and pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        )
        return "" if closed else str(context)

    assert faulty(manifests, loose) == []


def test_every_container_has_requests_and_limits(manifests: Manifests) -> None:
    def boundless(pod: Pod, container: Json) -> str:
        given = container.get("resources", {})
        missing = [f"{k}.{r}" for k in ("requests", "limits") for r in ("cpu", "memory") if r not in given.get(k, {})]
        return ", ".join(missing)

    assert faulty(manifests, boundless) == []


def test_every_container_that_stays_is_asked_whether_it_lives_and_is_ready(manifests: Manifests) -> None:
    silent = [
        f"{pod.name}/{c['name']}: no {probe}"
        for pod in manifests.pods
        for c in pod.lasting
        for probe in ("startupProbe", "livenessProbe", "readinessProbe")
        if probe not in c
    ]
    assert silent == []


def test_every_image_has_a_tag_or_digest_that_means_one_thing(manifests: Manifests) -> None:
    def vague(pod: Pod, container: Json) -> str:
        image = container["image"]
        tag = re.search(r"(?::([\w.-]+)|@sha256:[0-9a-f]{64})$", image)
        return "" if tag and tag[1] != "latest" else image

    assert faulty(manifests, vague) == []


def test_production_names_no_image_of_a_developer() -> None:
    import rendering

    images = [c["image"] for _, c in all_containers(rendering.render("production"))]
    assert [i for i in images if i.startswith("canopy/") or i.endswith(":dev")] == []


def test_ci_pulls_nothing() -> None:
    import rendering

    wrong = faulty(rendering.render("ci"), lambda pod, c: "" if c["imagePullPolicy"] == "Never" else c["image"])
    assert wrong == []


def test_only_who_asks_kubernetes_holds_a_token(manifests: Manifests) -> None:
    holding = {pod.name for pod in manifests.pods if pod.spec.get("automountServiceAccountToken", True)}
    assert holding == {"cloudhub", "devicecontroller", "edgecontroller", "spire-server", "spire-agent"}


def test_no_variable_comes_from_the_names_of_services(manifests: Manifests) -> None:
    """A Service called `canopy-...` would give units variables that are no settings, and they would not start."""
    assert [pod.name for pod in manifests.pods if pod.spec.get("enableServiceLinks") is not False] == []


def test_only_the_edge_has_folders_and_a_port_of_the_host(manifests: Manifests) -> None:
    of_an_edge = {*(f"/var/lib/canopy/{name}" for name in ("edge", "leaf", "identity")), EDGE_SOCKET}
    for pod in manifests.pods:
        kept = {v["hostPath"]["path"] for v in pod.spec["volumes"] if "hostPath" in v}
        ports = {p["hostPort"] for c in pod.containers for p in c.get("ports", []) if "hostPort" in p}
        assert not any(pod.spec.get(own) for own in ("hostNetwork", "hostIPC"))
        assert bool(pod.spec.get("hostPID")) == (pod.name in AGENT_SOCKETS), pod.name
        if pod.name == "edge":
            assert kept == of_an_edge and ports == {8883}
        elif pod.name in AGENT_SOCKETS:  # it looks at the processes that ask for an identity
            assert kept == {AGENT_SOCKETS[pod.name]} and not ports
        elif pod.name != "volumes":  # of the overlay ci: it makes the folders of the volumes
            assert not kept and not ports, pod.name
        assert pod.namespace in (EDGE, AGENTS) or not kept


def test_the_only_claim_of_a_folder_of_the_node_is_that_of_the_agents_socket(manifests: Manifests) -> None:
    """The restricted profile lets a pod name a claim; what it means is said here, by who may make volumes."""
    found = [v["spec"] for v in manifests.of("PersistentVolume") if "hostPath" in v["spec"]]
    assert [(v["hostPath"]["path"], v["accessModes"]) for v in found] == [(SOCKET, ["ReadOnlyMany"])]
    mounts = [
        m
        for pod in manifests.pods
        for c in pod.containers
        for m in c.get("volumeMounts", [])
        if m["name"].startswith("spire-agent")
    ]
    assert all(m["readOnly"] for m in mounts)


def test_a_port_of_the_host_is_not_one_of_a_sidecar_which_a_kubelet_would_not_map(manifests: Manifests) -> None:
    ports = [p for pod in manifests.pods for c in pod.spec.get("initContainers", []) for p in c.get("ports", [])]
    assert ports == []


def test_an_edge_is_given_its_folders_then_its_certificate_then_the_leaf_s_configuration(manifests: Manifests) -> None:
    edge = next(pod for pod in manifests.pods if pod.name == "edge")
    found = [c["name"] for c in edge.spec["initContainers"] if c["name"] != "app"]
    assert found == ["folders", "identity", "prepare"]


def test_scratch_space_is_bounded(manifests: Manifests) -> None:
    loose = [
        f"{pod.name}/{v['name']}" for pod in manifests.pods for v in pod.spec["volumes"] if v.get("emptyDir", 1) == {}
    ]
    assert loose == []


def test_every_port_and_volume_that_is_named_exists(manifests: Manifests) -> None:
    for pod in manifests.pods:
        volumes = {v["name"] for v in pod.spec["volumes"]} | _claimed(manifests, pod)
        for c in pod.containers:
            ports = [p["name"] for p in c.get("ports", [])]
            assert {m["name"] for m in c.get("volumeMounts", [])} <= volumes, (pod.name, c["name"])
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                how = c.get(probe, {})
                asked = (how.get("httpGet") or how.get("tcpSocket") or {}).get("port")
                assert asked is None or asked in ports, f"{pod.name}/{c['name']}: {probe} asks {asked}"
        numbers = [p["containerPort"] for c in pod.containers for p in c.get("ports", [])]
        assert len(numbers) == len(set(numbers)), f"{pod.name}: two containers of a pod listen on one port"


def _claimed(manifests: Manifests, pod: Pod) -> set[str]:
    workload = manifests.named(pod.kind, pod.namespace, pod.name)
    assert workload is not None
    return {c["metadata"]["name"] for c in workload["spec"].get("volumeClaimTemplates", [])}
