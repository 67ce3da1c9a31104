"""What is kept of a story that failed: each pod's logs, description and events, and the processes' logs."""

import shutil
import subprocess
from pathlib import Path

KEPT = Path(__file__).parents[2] / "build" / "cluster-e2e"
NAMESPACES = ("canopy", "canopy-edge", "canopy-spire", "default", "kube-system")
LOG_LINES = "2000"


def keep(story: str, outside: Path | None) -> Path:
    """Write it below build/cluster-e2e/STORY; returns that folder."""
    folder = KEPT / story
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _say(folder / "objects.txt", "get", "all,pv,pvc,nodes,leases,networkpolicies,pdb", "-A", "-o", "wide")
    _say(folder / "devices.yaml", "get", "devices,devicestatuses,nodes", "-A", "-o", "yaml")
    _say(folder / "events.txt", "get", "events", "-A", "--sort-by=.lastTimestamp")
    for namespace in NAMESPACES:
        for pod in _kubectl("get", "pods", "-n", namespace, "-o", "name").split():
            name = f"{namespace}.{pod.rpartition('/')[2]}"
            _say(folder / f"{name}.describe.txt", "describe", "-n", namespace, pod)
            logs = ("logs", "-n", namespace, pod, "--all-containers", "--prefix", f"--tail={LOG_LINES}")
            _say(folder / f"{name}.log", *logs)
            _say(folder / f"{name}.previous.log", *logs, "--previous")
    if outside and outside.exists():
        shutil.copytree(
            outside, folder / "outside", ignore=shutil.ignore_patterns("js", "jetstream", "*.db*", "*.pem", "*.sock")
        )
    return folder


def _say(path: Path, *words: str) -> None:
    if text := _kubectl(*words):
        path.write_text(text)


def _kubectl(*words: str) -> str:
    """Its output; nothing where it refuses: what can be kept is kept."""
    try:
        return subprocess.run(["kubectl", *words], capture_output=True, text=True, timeout=30, check=False).stdout
    except subprocess.TimeoutExpired:
        return ""
