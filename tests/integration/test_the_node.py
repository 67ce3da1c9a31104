"""A joining edge is a Kubernetes Node: Ready within 10 s of coming, NotReady 40 s after going."""

import time
import uuid
from typing import Any

import pytest
from screens import canopy, why
from stories import Stories

from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def _is(stories: Stories, condition: str) -> str:
    found: dict[str, Any] | None = await stories.kube.get("Node", "node")
    conditions = (found or {}).get("status", {}).get("conditions", [])
    return next((c["status"] for c in conditions if c["type"] == condition), "")


@pytest.mark.timeout(150)
@pytest.mark.one_mode("folded")
async def test_a_node_is_ready_soon_after_it_comes_and_not_ready_40_s_after_it_went(stories: Stories) -> None:
    node = stories.system.node("node")

    async def ready() -> bool:
        return await _is(stories, "Ready") == "True"

    async def not_ready() -> bool:
        return await _is(stories, "Ready") in ("False", "Unknown")

    async def healthy() -> bool:
        units = (await stories.api.get("nodes/node"))["units"]
        well = {unit["unit"] for unit in units if unit["well"]} == {*EDGE_UNITS, EDGEIDENTITY}
        return well and await _is(stories, "EdgeHealthy") == "True"

    await until(ready, 10)
    found = await stories.kube.get("Node", "node")
    assert found is not None
    labels = found["metadata"]["labels"]
    assert labels["node-role.kubernetes.io/edge"] == "" and labels["node.canopy.dev/managed"] == "true"
    assert {"key": "node.canopy.dev/edge", "effect": "NoSchedule"}.items() <= found["spec"]["taints"][0].items()
    await until(healthy, 15)
    name = f"far-{uuid.uuid4().hex[:6]}"
    await stories.create(name, on="node")
    await node.link.cut()
    try:
        gone = time.monotonic()
        await until(not_ready, 60)
        assert 25 <= time.monotonic() - gone <= 50
        await why(stories.system, name, "link", "node node is away: the link is cut", "the node goes on by itself")
        screen = await canopy(stories.system, "status")
        assert screen.code == 1 and "node   away" in screen.text and "devicecontroller" in screen.text
    finally:
        await node.link.join()
    await until(ready, 10)
    await stories.kube.delete("Device", name)
