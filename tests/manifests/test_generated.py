"""What in deploy/ is written from the code is what the code says now. CANOPY_SNAPSHOT=1 writes it anew."""

import json
import os
from pathlib import Path

import pytest
import yaml
from rendering import K8S, OVERLAYS, Json, no_kubectl, render

from canopy.cli import nats, secrets
from canopy.contracts.crds import crds
from canopy.testing.golden import golden

IDENTITY = "/run/canopy"
HUBS = [(3, K8S / "base/nats/hub.conf"), (1, K8S / "components/single-replica/hub.conf")]


@pytest.mark.parametrize("crd", crds(), ids=lambda c: c["spec"]["names"]["plural"])
def test_the_crds_are_those_of_the_models(crd: Json) -> None:
    text = yaml.safe_dump(crd, sort_keys=False, width=120, allow_unicode=True)
    golden(K8S / "crds" / f"{crd['spec']['names']['plural']}.yaml", text)


@pytest.mark.parametrize(("servers", "file"), HUBS, ids=["three", "one"])
def test_the_hub_s_configuration_is_that_of_the_catalogue(servers: int, file: Path, tmp_path: Path) -> None:
    nats.hub(servers=servers, identity=IDENTITY, to=str(tmp_path / "hub.conf"))
    golden(file, (tmp_path / "hub.conf").read_text())


def test_every_key_of_a_secret_that_a_pod_names_is_one_that_the_command_makes(kubectl_of_nothing: None, capsys) -> None:
    secrets.secrets()
    items = json.loads(capsys.readouterr().out)["items"]
    made = {(i["metadata"]["namespace"], i["metadata"]["name"]): i["data"] for i in items if i["kind"] == "Secret"}
    for overlay in OVERLAYS:
        for pod in render(overlay).pods:
            sources = [e.get("valueFrom", {}) for c in pod.containers for e in c.get("env", [])]
            named = [source["secretKeyRef"] for source in sources if "secretKeyRef" in source]
            assert [r for r in named if r["key"] not in made[pod.namespace, r["name"]]] == [], pod.name
            mounted = [v["secret"]["secretName"] for v in pod.spec["volumes"] if "secret" in v]
            assert all((pod.namespace, name) in made for name in mounted), pod.name


@pytest.fixture
def kubectl_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that has nothing yet; what is rendered is rendered by the true one before."""
    if missing := no_kubectl():
        pytest.skip(missing)
    for overlay in OVERLAYS:
        render(overlay)
    (tmp_path / "kubectl").write_text("#!/bin/sh\necho '{\"items\": []}'\n")
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
