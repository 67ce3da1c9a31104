"""Figures of the containers as they are after the stories, as the kubelet reads them: RSS is their anonymous memory,
the working set what the limit is compared with."""

import json

import kubectl as k
import pytest
from installation import Installation

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
MIB = 1024 * 1024


async def test_memory_of_each_pod(canopy: Installation) -> None:
    path = f"/api/v1/nodes/{await canopy.node()}/proxy/stats/summary"
    summary = json.loads(await k.kubectl("get", "--raw", path))
    for pod in sorted(summary["pods"], key=lambda p: (p["podRef"]["namespace"], p["podRef"]["name"])):
        if pod["podRef"]["namespace"] not in (k.AGENTS, k.CLOUD, k.EDGE):
            continue
        used = {c["name"]: c["memory"].get("rssBytes", 0) / MIB for c in pod.get("containers", []) if c.get("memory")}
        assert all(mib > 0 for mib in used.values()), used
        parts = ", ".join(f"{name} {mib:.0f}" for name, mib in sorted(used.items()))
        held = sum(c["memory"].get("workingSetBytes", 0) / MIB for c in pod.get("containers", []))
        name = pod["podRef"]["name"]
        canopy.figures.append(f"RSS of {name}: {sum(used.values()):.0f} MiB ({parts}); working set {held:.0f} MiB")
