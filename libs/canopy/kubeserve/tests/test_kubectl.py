"""Stock kubectl against kubeserve: what a person does in the demo, word for word."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.server,
    pytest.mark.xdist_group("kubectl"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine"),
]
EXAMPLES = Path(__file__).parents[4] / "examples"
Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    directory = tmp_path_factory.mktemp("kubectl")
    command = [sys.executable, "-m", "canopy.kubeserve", "--dir", str(directory / "server")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    environment = os.environ | {"KUBECONFIG": ready["kubeconfig"], "HOME": str(directory)}

    def run(*words: str, fails: bool = False, stdin: str = "") -> str:
        done = subprocess.run(
            ["kubectl", *words], env=environment, input=stdin, capture_output=True, text=True, timeout=30, check=False
        )
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("apply", "-f", str(EXAMPLES / "light-model.yaml"), "-f", str(EXAMPLES / "light-device.yaml"))
    yield run
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == 0


def columns(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_get_shows_the_columns_of_the_crd(kubectl: Kubectl) -> None:
    head, light = columns(kubectl("get", "devices"))
    assert head == ["NAME", "MODEL", "NODE", "PROTOCOL", "READY", "AGE"]
    assert light[:4] == ["light", "light-model", "edge-1", "modbus"]


def test_apply_twice_changes_nothing(kubectl: Kubectl) -> None:
    assert "unchanged" in kubectl("apply", "-f", str(EXAMPLES / "light-device.yaml"))


def test_a_list_is_applied_item_by_item(kubectl: Kubectl) -> None:
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"space-{i}"}} for i in range(2)]
    body = json.dumps({"apiVersion": "v1", "kind": "List", "items": spaces})
    assert kubectl("apply", "-f", "-", stdin=body).count("created") == 2
    assert kubectl("delete", "-f", "-", stdin=body).count("deleted") == 2


def test_get_gives_yaml_and_describe_and_explain_speak(kubectl: Kubectl) -> None:
    assert "nodeName: edge-1" in kubectl("get", "device", "light", "-o", "yaml")
    assert "light-model" in kubectl("describe", "device", "light")
    assert "collectCycle" in kubectl("explain", "device.spec.properties")


def test_a_patch_sets_a_desired_value(kubectl: Kubectl) -> None:
    patch = '[{"op":"replace","path":"/spec/properties/0/desired/value","value":"true"}]'
    assert "patched" in kubectl("patch", "device", "light", "--type", "json", "-p", patch)
    path = "jsonpath={.spec.properties[0].desired.value}"
    assert kubectl("get", "device", "light", "-o", path) == "true"


def test_a_wrong_type_and_an_unknown_field_are_named(kubectl: Kubectl) -> None:
    said = kubectl("patch", "device", "light", "--type", "merge", "-p", '{"spec":{"nodeName":7}}', fails=True)
    assert "spec.nodeName" in said and "string" in said
    bad = {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": {"name": "b"}, "spec": {"nod": 1}}
    assert 'unknown field "spec.nod"' in kubectl("apply", "-f", "-", stdin=json.dumps(bad), fails=True)
    assert "created" in kubectl("create", "--validate=warn", "-f", "-", stdin=json.dumps(bad))
    assert "deleted" in kubectl("delete", "device", "b")


def test_a_node_is_shown_and_changed_as_kubectl_does(kubectl: Kubectl) -> None:
    labels = {"node-role.kubernetes.io/edge": ""}
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": labels}, "status": ready}
    kubectl("apply", "-f", "-", stdin=json.dumps(node))
    kubectl("taint", "node", "n1", "a=b:NoSchedule")
    kubectl("cordon", "n1")
    assert columns(kubectl("get", "nodes"))[1][:3] == ["n1", "Ready,SchedulingDisabled", "edge"]
    assert "a=b:NoSchedule" in kubectl("describe", "node", "n1")


def test_create_makes_namespaces_configmaps_and_secrets(kubectl: Kubectl) -> None:
    assert "created" in kubectl("create", "namespace", "dev")
    kubectl("create", "configmap", "c", "--namespace=dev", "--from-literal=a=b", "--from-literal=c=d")
    kubectl("create", "secret", "generic", "s", "--namespace=dev", "--from-literal=password=open")
    found = json.loads(kubectl("get", "configmap", "c", "--namespace=dev", "-o", "json"))
    assert found["data"] == {"a": "b", "c": "d"}
    found = json.loads(kubectl("get", "secret", "s", "--namespace=dev", "-o", "json"))
    assert found["data"] == {"password": "b3Blbg=="}
    assert "already exists" in kubectl("create", "namespace", "dev", fails=True)
    assert "deleted" in kubectl("delete", "namespace", "dev")


def test_a_watch_tells_of_a_change(kubectl: Kubectl) -> None:
    kubectl("label", "device", "light", "room=hall", "--overwrite")
    said = kubectl("wait", "--for=jsonpath={.metadata.labels.room}=hall", "device/light", "--timeout=5s")
    assert "condition met" in said


def test_what_we_lack_is_said(kubectl: Kubectl) -> None:
    example = str(EXAMPLES / "light-device.yaml")
    assert "plain `kubectl apply`" in kubectl("apply", "--server-side", "-f", example, fails=True)
    assert kubectl("auth", "can-i", "delete", "devices").strip() == "yes"
