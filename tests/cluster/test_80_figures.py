"""Figures of the containers as they are after the stories, as the kubelet reads them: RSS is their anonymous memory,
the working set what the limit is compared with."""

import json
from typing import Any

import kubectl as k
import pytest
from installation import Installation
from world import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
MIB = 1024 * 1024


async def test_memory_of_each_pod(canopy: Installation) -> None:
    path = f"/api/v1/nodes/{await canopy.node()}/proxy/stats/summary"

    async def read() -> list[k.Json] | None:
        pods = [p for p in json.loads(await k.kubectl("get", "--raw", path))["pods"] if _ours(p)]
        return pods if pods and all(mib > 0 for pod in pods for mib in _rss(pod).values()) else None

    pods: list[k.Json] = await until("the kubelet has read the memory of each container", read, 60)
    for pod in sorted(pods, key=lambda p: (p["podRef"]["namespace"], p["podRef"]["name"])):
        used = _rss(pod)
        parts = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(used.items()))
        held = sum(c["memory"].get("workingSetBytes", 0) / MIB for c in pod.get("containers", []))
        name = pod["podRef"]["name"]
        canopy.figures.append(f"RSS of {name}: {sum(used.values()):.0f} MiB ({parts}); working set {held:.0f} MiB")


def _ours(pod: k.Json) -> bool:
    return pod["podRef"]["namespace"] in (k.AGENTS, k.CLOUD, k.EDGE)


def _rss(pod: k.Json) -> dict[str, float]:
    """MiB by container; of one that has just begun nothing is read yet."""
    used: list[Any] = [c for c in pod.get("containers", []) if c.get("memory")]
    return {c["name"]: c["memory"].get("rssBytes", 0) / MIB for c in used}
