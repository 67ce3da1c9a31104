"""Overlays as objects, and the questions that the tests of this folder ask of them."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
OVERLAYS = sorted(p.name for p in (K8S / "overlays").iterdir())
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")

Json = dict[str, Any]


def no_kubectl() -> str:
    """What is missing, in a sentence; "" if nothing is."""
    return "" if shutil.which("kubectl") else "no kubectl here, whose kustomize renders the overlays"


@dataclass(frozen=True)
class Pod:
    """A workload's pod template. `name` is the workload's."""

    kind: str
    name: str
    namespace: str
    labels: Json
    spec: Json
    replicas: int | None

    @property
    def containers(self) -> list[Json]:
        """All of them, those that only prepare too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def lasting(self) -> list[Json]:
        """Those that stay."""
        sidecars = [c for c in self.spec.get("initContainers", []) if c.get("restartPolicy") == "Always"]
        return [*sidecars, *self.spec["containers"]] if self.kind != "Job" else []


@dataclass(frozen=True)
class Manifests:
    """What one overlay renders to."""

    overlay: str
    objects: tuple[Json, ...]

    def of(self, *kinds: str) -> Iterator[Json]:
        return (o for o in self.objects if o["kind"] in kinds)

    def named(self, kind: str, namespace: str, name: str) -> Json | None:
        """The object; None if there is none."""
        found = (
            o for o in self.of(kind) if (o["metadata"].get("namespace", ""), o["metadata"]["name"]) == (namespace, name)
        )
        return next(found, None)

    @property
    def pods(self) -> list[Pod]:
        return [_pod(o) for o in self.of(*WORKLOADS)]

    def selected(self, namespace: str, selector: Json) -> list[Pod]:
        """The pods that these labels mean."""
        wanted = selector.get("matchLabels", selector).items()
        return [p for p in self.pods if p.namespace == namespace and wanted <= p.labels.items()]

    def environment(self, pod: Pod, container: Json) -> dict[str, Any]:
        """Every variable of a container: its value, or its whole entry where a Secret or the pod says it."""
        found: dict[str, Any] = {}
        for source in container.get("envFrom", []):
            held = self.named("ConfigMap", pod.namespace, source["configMapRef"]["name"])
            assert held is not None, f"{pod.name}: no ConfigMap {source['configMapRef']['name']}"
            found |= held["data"]
        return found | {e["name"]: e.get("value", e) for e in container.get("env", [])}


def _pod(workload: Json) -> Pod:
    meta, spec = workload["metadata"], workload["spec"]
    template = spec["template"]
    return Pod(
        workload["kind"],
        meta["name"],
        meta["namespace"],
        template["metadata"]["labels"],
        template["spec"],
        spec.get("replicas"),
    )


@cache
def render(overlay: str) -> Manifests:
    """What `kubectl apply -k` would send."""
    run = subprocess.run(
        ["kubectl", "kustomize", str(K8S / "overlays" / overlay)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return Manifests(overlay, tuple(read(run.stdout)))


def read(text: str) -> list[Json]:
    """The objects of a YAML file."""
    return [o for o in yaml.load_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if o]
