"""A joining edge is a Kubernetes Node: Ready within 10 s of coming, NotReady 40 s after going."""

import time
from typing import Any

import pytest
from stories import Stories

from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def _ready(stories: Stories, name: str) -> str:
    found: dict[str, Any] | None = await stories.kube.get("Node", name)
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == "Ready"), "")


@pytest.mark.timeout(150)
async def test_a_node_is_ready_soon_after_it_comes_and_not_ready_40_s_after_it_went(stories: Stories) -> None:
    node = stories.system.node("node")

    async def ready() -> bool:
        return await _ready(stories, "node") == "True"

    async def not_ready() -> bool:
        return await _ready(stories, "node") in ("False", "Unknown")

    await until(ready, 10)
    found = await stories.kube.get("Node", "node")
    assert found is not None
    labels = found["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/edge"] == "" and labels["node.canopy.dev/managed"] == "true"
    assert {"key": "node.canopy.dev/edge", "effect": "NoSchedule"}.items() <= found["spec"]["taints"][0].items()
    await node.link.cut()
    try:
        gone = time.monotonic()
        await until(not_ready, 60)
        assert 25 <= time.monotonic() - gone <= 50
    finally:
        await node.link.join()
    await until(ready, 10)
