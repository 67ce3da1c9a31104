"""The unit on a real leaf with its MQTT gateway: KubeEdge's cases, the stream's position, the sets up and down."""

import time
from typing import Any

import pytest

from canopy.testing.wait import until

pytestmark = pytest.mark.server


def actual(value: str, kind: str = "int") -> dict[str, Any]:
    return {"actual": {"value": value}, "metadata": {"type": kind}}


async def test_a_report_is_answered_documented_stored_and_goes_up(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one:
        before = int(time.time() * 1000)
        result = await one.update({"t": actual("1")}, event="e1")
        twin = result["twin"]["t"]
        assert "code" not in result and before <= result["timestamp"] <= time.time() * 1000
        assert (twin["actual"]["value"], twin["optional"], twin["metadata"]["type"]) == ("1", True, "int")
        document = await one.next("twin/update/document")
        assert document["twin"]["t"]["last"] is None and document["twin"]["t"]["current"]["actual"]["value"] == "1"
        await one.get()
        assert "twin/update/delta" not in [s for s, _ in one.heard]
    await until(lambda: node.hub.value("d1", "t") == "1")
    assert (node.hub.reports[-1].uid, node.hub.reports[-1].device_revision) == ("u1", 7)

    async def equal() -> bool:
        summary = await node.hub.summary()
        return summary.hash == node.hub.stored.hash and summary.pending == 0

    await until(equal)
