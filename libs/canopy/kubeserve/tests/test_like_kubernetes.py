"""What stock kubectl prints and how it ends, on kubeserve and on a real kube-apiserver: word for word the same."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from canopy.testing.apiserver import OWN_CLUSTER

pytestmark = [
    pytest.mark.server,
    pytest.mark.conformance,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on this machine"),
    pytest.mark.skipif(OWN_CLUSTER not in os.environ, reason="`make conformance` starts a real kube-apiserver"),
]
EXAMPLES = Path(__file__).parents[4] / "examples"
NAMESPACE = "alike"
LIGHT = [EXAMPLES / "light-model.yaml", EXAMPLES / "light-device.yaml"]
DEADLINE_SECONDS = 20.0
_OWN_TO_EACH = (
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
    (r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r'(resourceVersion"?: )"\d+"', r"\1VERSION"),
    (r"(Resource Version: +)\d+", r"\1VERSION"),
    (r"\b(\d+m)?\d+s\b|\b\d+m\b", "AGE"),  # 119s, 2m, 2m1s, 10m
    (r"/(LIVE|MERGED)-\d+", r"/\1"),
    (r"\b20\d\d-\d\d-\d\d [\d:.]+ [-+]\d{4}", "TIME"),
    (r" +", " "),  # columns are as wide as the ages in them
    (r"https://127\.0\.0\.1:\d+", "URL"),
)


@dataclass(frozen=True, slots=True)
class Kubectl:
    """Stock kubectl with one kubeconfig and a cache of its own."""

    kubeconfig: str
    home: Path

    def environment(self) -> dict[str, str]:
        return os.environ | {"KUBECONFIG": self.kubeconfig, "HOME": str(self.home)}

    def __call__(self, words: str | list[str], stdin: object = None, namespace: str = NAMESPACE) -> str:
        """What it printed, both ways, and its exit code; without what is each server's own."""
        split = words.split() if isinstance(words, str) else words
        given = stdin if isinstance(stdin, str) else json.dumps(stdin)
        command = ["kubectl", "-n", namespace, *split]
        done = subprocess.run(
            command, env=self.environment(), input=given, capture_output=True, text=True, timeout=30, check=False
        )
        return scrubbed(f"{done.stdout}{done.stderr}exit {done.returncode}")

    def watching(self, words: str) -> "subprocess.Popen[str]":
        command = ["kubectl", "-n", NAMESPACE, *words.split()]
        return subprocess.Popen(command, env=self.environment(), stdout=subprocess.PIPE, text=True)


def scrubbed(text: str) -> str:
    for pattern, name in _OWN_TO_EACH:
        text = re.sub(pattern, name, text)
    lines = text.splitlines()
    faults = iter(sorted(line for line in lines if line.startswith("* ")))  # Kubernetes says them in any order
    return "\n".join(next(faults) if line.startswith("* ") else line for line in lines)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kubectl, Kubectl]]:
    """kubectl at kubeserve, and at the real one; each with the example in a namespace of its own."""
    directory = tmp_path_factory.mktemp("alike")
    command = [sys.executable, "-m", "canopy.kubeserve", "--dir", str(directory / "server")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    ready = json.loads(process.stdout.readline())
    embedded = Kubectl(ready["kubeconfig"], directory / "embedded")
    real = Kubectl(os.environ[OWN_CLUSTER], directory / "real")
    name = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    try:
        for kubectl in (embedded, real):
            kubectl(["delete", "namespace", NAMESPACE, "--ignore-not-found"])
            assert kubectl("create -f -", name).endswith("created\nexit 0")
            for file in LIGHT:
                said = kubectl("apply -f -", file.read_text().replace("namespace: default", f"namespace: {NAMESPACE}"))
                assert said.endswith("created\nexit 0"), said
        yield embedded, real
    finally:
        real(["delete", "namespace", NAMESPACE, "--wait=false"])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == 0


def device(name: str = "other", **spec: object) -> dict[str, object]:
    meta = {"name": name}
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": meta, "spec": spec}


def alike(both: tuple[Kubectl, Kubectl], words: str | list[str], stdin: object = None) -> str:
    """Run it on both; the same must come."""
    embedded, real = (kubectl(words, stdin) for kubectl in both)
    if embedded != real:
        pytest.fail(f"kubectl {words}\nkubeserve: {embedded}\nKubernetes: {real}", pytrace=False)
    return real


@pytest.mark.parametrize(
    "words",
    [
        "get devices",
        "get devices -o wide",
        "get device light -o yaml",
        "get device light -o json",
        "get device light -o name",
        "get devices --show-labels",
        "get devices -A",
        "get devices -l app=none",
        "get devices --field-selector metadata.name=light",
        "get devices --sort-by=.metadata.name",
        "get devicemodels",
        "get devicemodels -o wide",
        "get devicestatuses",
        "get device,devicemodel",
        "get device nothing",
        "get device nothing --ignore-not-found",
        "get devices.v1beta1.devices.kubeedge.io light",
        "get nothings",
        "get devices --field-selector spec.nodeName=x",
        "describe device light",
        "describe devicemodel light-model",
        "delete device nothing",
        "api-resources --api-group=devices.kubeedge.io",
        "explain device.spec",
        "explain device.spec.properties",
        "explain device.spec.properties.desired.value",
        "explain devicemodel.spec.properties --recursive",
        "explain devicestatus.status.twins",
        "explain device.spec.nothing",
        "auth can-i delete devices",
        "get crd devices.devices.kubeedge.io",
        "get namespace alike",
    ],
)
def test_kubectl_shows_the_same(both: tuple[Kubectl, Kubectl], words: str) -> None:
    alike(both, words)


@pytest.mark.parametrize(
    "body",
    [
        device(nodeName=7),
        device(nodeName=True, properties=[{"name": 5}, {"name": "a", "collectCycle": "soon"}]),
        device(nod=1),
        device(properties=[{"name": "a", "unknown": 1}]),
        device(properties={"a": 1}),
        device(properties=[{"collectCycle": 1}]),
        device("Capital"),
        device("-dash"),
        device("light"),
        {**device(), "apiVersion": "devices.kubeedge.io/v9"},
        {**device(), "kind": "Devise"},
        {**device(), "metadata": {"labels": {"a": "b"}}},
        {**device(), "metadata": {"name": "x", "labels": {"a b": "c"}}},
        {**device(), "metadata": {"name": "x", "labels": {"a": 5}}},
        {**device(), "metadata": {"name": "x", "annotations": {"a b": "c"}}},
        {**device(), "metadata": {"name": "x", "nothing": 1}},
        {**device(), "metadata": {"name": "x", "namespace": "another"}},
        {**device(), "metadata": {"name": "x", "resourceVersion": "5"}},
        {**device(), "spec": None},
        {**device(), "spec": "text"},
        {**device(), "status": {"state": 5}},
        {
            "apiVersion": "devices.kubeedge.io/v1beta1",
            "kind": "DeviceModel",
            "metadata": {"name": "m"},
            "spec": {"properties": [{"name": "p", "type": "NUMBER", "accessMode": "Sometimes"}]},
        },
    ],
    ids=lambda body: re.sub(r'"apiVersion".*?"metadata": |[^\w ]', "", json.dumps(body))[:60],
)
@pytest.mark.parametrize("validate", ["strict", "ignore"])
def test_a_wrong_field_is_refused_in_the_same_words(both: tuple[Kubectl, Kubectl], body: object, validate: str) -> None:
    said = alike(both, f"create --validate={validate} -f -", body)
    if said.endswith("exit 0"):
        alike(both, "get -f - -o yaml", body)
        alike(both, "delete -f -", body)


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", '{"spec":{"nodeName":7}}'),
        ("merge", '{"metadata":{"name":"another"}}'),
        ("merge", '{"metadata":{"resourceVersion":"1"}}'),
        ("merge", '{"metadata":{"uid":"00000000-0000-0000-0000-000000000000"}}'),
        ("json", '[{"op":"replace","path":"/spec/nodeName","value":1}]'),
    ],
)
def test_a_patch_that_does_not_fit_is_refused_in_the_same_words(
    both: tuple[Kubectl, Kubectl], kind: str, patch: str
) -> None:
    assert alike(both, ["patch", "device", "light", "--type", kind, "-p", patch]).endswith("exit 1")


@pytest.mark.parametrize(
    "words",
    [
        ["patch", "device", "light", "--type", "merge", "-p", '{"spec":'],
        ["patch", "device", "light", "--type", "json", "-p", '[{"op":"test","path":"/spec/nodeName","value":"no"}]'],
        ["patch", "device", "light", "--type", "json", "-p", '[{"op":"remove","path":"/spec/properties/99"}]'],
        ["patch", "device", "light", "--type", "json", "-p", '[{"op":"fly","path":"/spec"}]'],
        ["patch", "device", "light", "--type", "json", "-p", '{"op":"replace"}'],
        ["patch", "device", "light", "--type", "strategic", "-p", '{"spec":{"nodeName":"x"}}'],
        ["get", "devices", "-l", "a==b==c"],
    ],
    ids=lambda words: " ".join(words[3:]),
)
def test_what_cannot_be_read_is_the_same_error_in_own_words(both: tuple[Kubectl, Kubectl], words: list[str]) -> None:
    """Go's parsers have theirs."""
    embedded, real = (kubectl(words) for kubectl in both)
    assert embedded.partition(":")[0] == real.partition(":")[0] and real.endswith("exit 1")
    assert embedded.endswith("exit 1")


@pytest.mark.parametrize(
    "patch", ['[{"op":"replace","path":"/spec/nothing","value":1}]', '[{"op":"add","path":"/spec/nothing","value":1}]']
)
def test_an_unknown_field_in_a_patch_is_warned_of(both: tuple[Kubectl, Kubectl], patch: str) -> None:
    assert "unknown field" in alike(both, ["patch", "device", "light", "--type", "json", "-p", patch])


@pytest.mark.parametrize("words", ["explain devices", "explain device.metadata", "explain device --recursive"])
def test_explain_names_the_same_fields(both: tuple[Kubectl, Kubectl], words: str) -> None:
    """What Kubernetes says of the metadata of every object is its own text."""
    embedded, real = ([line for line in kubectl(words).splitlines() if "\t<" in line] for kubectl in both)
    assert embedded == real and real


def test_a_life_with_kubectl_is_the_same(both: tuple[Kubectl, Kubectl]) -> None:
    wanted = device("life", nodeName="n", properties=[{"name": "a", "desired": {"value": "1"}}])
    alike(both, "apply -f -", wanted)
    alike(both, "apply -f -", wanted)
    alike(both, "diff -f -", device("life", nodeName="m"))
    alike(both, "apply -f -", device("life", nodeName="m"))
    alike(both, "label device life room=hall")
    alike(both, "label device life room=attic")
    alike(both, "annotate device life a=b --overwrite")
    alike(
        both, ["patch", "device", "life", "--type=merge", "--subresource=status", "-p", '{"status":{"state":"online"}}']
    )
    alike(both, "get device life -o yaml")
    alike(both, "wait --for=jsonpath={.status.state}=online device/life --timeout=5s")
    alike(both, "replace -f -", device("life", nodeName="k"))
    alike(both, "get device life -o yaml --show-managed-fields=false")
    alike(both, "delete device life")
    alike(both, "get device life")


def test_a_watch_shows_the_same_lines(both: tuple[Kubectl, Kubectl]) -> None:
    assert _watched(both[0]) == _watched(both[1])


def _watched(kubectl: Kubectl) -> list[str]:
    """The lines of a watch while a device comes, changes and goes. The first line proves that it is on."""
    watch = kubectl.watching("get devices --watch --output-watch-events --request-timeout=20s")
    assert watch.stdout
    lines = [watch.stdout.readline(), watch.stdout.readline()]  # the head, and the light
    kubectl("create -f -", device("seen", nodeName="a"))
    kubectl(["patch", "device", "seen", "--type=merge", "-p", '{"spec":{"nodeName":"b"}}'])
    kubectl("delete device seen")
    began = time.monotonic()
    while "DELETED" not in lines[-1] and time.monotonic() - began < DEADLINE_SECONDS:
        lines.append(watch.stdout.readline())
    watch.kill()
    watch.wait()
    return [scrubbed(line) for line in lines]
