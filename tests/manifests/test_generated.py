"""What in deploy/ is written from the code is what the code says now. CANOPY_SNAPSHOT=1 writes it anew."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from rendering import K8S, OVERLAYS, Json, no_kubectl, render

from canopy.cli import nats
from canopy.cli.passwords import CLOUD_NAMESPACE, NODES, Secrets, wanted
from canopy.contracts.crds import crds
from canopy.testing.golden import golden
from canopy.testing.servers import nats_binary

OF_IDENTITY = "canopy-hub-keys"
"""Made by deploy/k8s/identity.py: test_identity looks at it."""
HUBS = [
    (3, "", K8S / "base/nats/hub.conf"),
    (1, "", K8S / "components/single-replica/hub.conf"),
    (3, "/run/canopy", K8S / "components/identity/hub.conf"),
]


@pytest.mark.parametrize("crd", crds(), ids=lambda c: c["spec"]["names"]["plural"])
def test_the_crds_are_those_of_the_models(crd: Json) -> None:
    text = yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
    golden(K8S / "crds" / f"{crd['spec']['names']['plural']}.yaml", text)


@pytest.mark.parametrize(("servers", "identity", "file"), HUBS, ids=["three", "one", "by certificates"])
def test_the_hub_s_configuration_is_that_of_the_catalogue(
    servers: int, identity: str, file: Path, tmp_path: Path
) -> None:
    nats.hub(servers=servers, identity=identity, to=str(tmp_path / "hub.conf"))
    golden(file, (tmp_path / "hub.conf").read_text())


def secrets() -> Secrets:
    """What `canopy secrets` makes for a cluster with one node, and one outside."""
    return wanted(Secrets({}), ["edge-1", "outside"], [], ["edge-1"], lambda: "p0")


@pytest.mark.parametrize("overlay", ["ci", "dev"])
def test_nats_server_takes_the_files_and_variables_that_its_pod_has(overlay: str, tmp_path: Path) -> None:
    if missing := no_kubectl():
        pytest.skip(missing)
    manifests = render(overlay)
    pod = next(p for p in manifests.pods if p.name == "nats")
    volumes = {v["name"]: v for v in pod.spec["volumes"]}
    files = {
        **manifests.named("ConfigMap", pod.namespace, volumes["config"]["configMap"]["name"])["data"],
        **{f"../nodes/{k}": v for k, v in secrets().of(CLOUD_NAMESPACE, NODES).items()},
    }
    for name, text in files.items():
        (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "hub" / name).write_text(text.replace("/var/lib/canopy", str(tmp_path / "store")))
    given = manifests.environment(pod, pod.spec["containers"][0]).items()
    variables = {k: v if isinstance(v, str) else "p0" for k, v in given}
    command = [nats_binary(), "-t", "-c", tmp_path / "hub/hub.conf"]
    ran = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr


def test_every_key_of_a_secret_that_a_pod_names_is_one_that_the_command_makes() -> None:
    if missing := no_kubectl():
        pytest.skip(missing)
    made = secrets()
    for overlay in OVERLAYS:
        for pod in render(overlay).pods:
            sources = [e.get("valueFrom", {}) for c in pod.containers for e in c.get("env", [])]
            named = [source["secretKeyRef"] for source in sources if "secretKeyRef" in source]
            assert [r for r in named if r["key"] not in made.of(pod.namespace, r["name"])] == [], pod.name
            mounted = [v["secret"]["secretName"] for v in pod.spec["volumes"] if "secret" in v]
            assert all(made.of(pod.namespace, name) for name in mounted if name != OF_IDENTITY)
