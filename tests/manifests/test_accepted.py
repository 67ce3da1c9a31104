"""Every overlay is taken by a real kube-apiserver: by a server-side dry run, and the restricted profile is kept."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from rendering import K8S, Manifests, no_kubectl

from canopy.testing.apiserver import OWN_CLUSTER

pytestmark = [pytest.mark.conformance, pytest.mark.xdist_group("cluster")]


def kubectl(*words: str, stdin: str = "") -> str:
    command = ["kubectl", "--kubeconfig", os.environ[OWN_CLUSTER], *words]
    ran = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """The namespaces: a dry run needs them to be there."""
    if OWN_CLUSTER not in os.environ:
        pytest.skip(f"no cluster of the tests' own ({OWN_CLUSTER}): make conformance")
    if missing := no_kubectl():
        pytest.skip(missing)
    kubectl("apply", "--server-side", "-k", str(K8S / "base/namespaces"))
    yield
    kubectl("delete", "-k", str(K8S / "base/namespaces"), "--wait=false")


def test_a_real_api_server_takes_every_object(cluster: None, manifests: Manifests) -> None:
    overlay = str(K8S / "overlays" / manifests.overlay)
    said = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-k", overlay)
    taken = [line for line in said.splitlines() if line.endswith("serverside-applied (server dry run)")]
    assert len(taken) == len(manifests.objects), said
    assert "Warning" not in said, said


def test_the_restricted_profile_has_nothing_against_a_pod_of_the_cloud(cluster: None, manifests: Manifests) -> None:
    """Workloads are only warned about; the pods that they would make are what the profile refuses."""
    for pod in manifests.pods:
        if pod.namespace != "canopy":
            continue
        there = {v["name"] for v in pod.spec["volumes"]}
        claimed = {m["name"] for c in pod.containers for m in c.get("volumeMounts", [])} - there
        volumes = [*pod.spec["volumes"], *({"name": name, "emptyDir": {}} for name in sorted(claimed))]
        spec = {**pod.spec, "serviceAccountName": "default", "volumes": volumes}
        head = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod.name, "namespace": pod.namespace}}
        kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps({**head, "spec": spec}))
