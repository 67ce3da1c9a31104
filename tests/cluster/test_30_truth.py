"""Claim: `kubectl get devices,nodes` tell the truth: also of a node that is switched off, and that comes back."""

import kubectl as k
import pytest
from installation import Installation
from outside import NODE
from world import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GONE_SECONDS = 90.0  # beats every 10 s, gone after 40 s of silence
BACK_SECONDS = 60.0
TAINT = {"key": "node.canopy.dev/edge", "effect": "NoSchedule"}


async def test_the_node_outside_is_a_node_of_kubernetes_that_takes_no_pods(canopy: Installation) -> None:
    await until("the node is Ready", _ready, BACK_SECONDS)
    node = await k.got("node", NODE)
    assert node["metadata"]["labels"]["node.canopy.dev/managed"] == "true"
    assert any(TAINT.items() <= taint.items() for taint in node["spec"]["taints"])  # Kubernetes has its own beside it
    assert node["status"]["capacity"].get("pods", "0") == "0"


async def test_the_kubelet_s_node_is_left_to_the_kubelet(canopy: Installation) -> None:
    node = await k.got("node", await canopy.node())
    assert "node.canopy.dev/managed" not in node["metadata"]["labels"]
    assert not [t for t in node["spec"].get("taints", []) if "canopy" in t["key"]]


async def test_devices_show_their_node_and_their_model(canopy: Installation) -> None:
    rows = (await k.kubectl("get", "devices", "-n", "default")).splitlines()
    head, lines = rows[0].split(), [row.split() for row in rows[1:]]
    at = {row[0]: row for row in lines}["counter-outside"]
    assert (at[head.index("NODE")], at[head.index("MODEL")]) == (NODE, "counter")


async def test_a_node_that_is_switched_off_is_not_ready_and_is_ready_again_when_it_is_back(
    canopy: Installation,
) -> None:
    outside = await canopy.joined()
    await outside.stop()
    await until("the node is not Ready", _not_ready, GONE_SECONDS)
    await outside.start()
    await until("the node is Ready again", _ready, BACK_SECONDS)


async def _ready() -> bool:
    return await _condition() == "True"


async def _not_ready() -> bool:
    return await _condition() in ("False", "Unknown")


async def _condition() -> str:
    conditions = (await k.got("node", NODE))["status"].get("conditions", [])
    return next((str(c["status"]) for c in conditions if c["type"] == "Ready"), "")
