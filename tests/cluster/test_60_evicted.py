"""Claim: a leader's pod is evicted by the Eviction API within its PodDisruptionBudget; the other replica leads, and
nothing is lost. What the budget does not allow is refused."""

import json
import time

import kubectl as k
import pytest
from installation import Installation, rolled_out
from world import Load, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
FOLLOWED_SECONDS = 20.0
CONTROLLERS = ("devicecontroller", "edgecontroller")


@pytest.mark.parametrize("unit", CONTROLLERS)
async def test_an_evicted_leader_is_followed_and_nothing_is_lost(canopy: Installation, unit: str) -> None:
    async with Load.on(await canopy.edges()) as load:
        await load.flows("the start")
        pod, holder = await _leader(unit)
        began = time.monotonic()
        await _evict(pod)

        async def other_leads() -> bool:
            return bool((now := await _holder(unit)) and now != holder)

        await until(f"another replica of {unit} leads", other_leads, FOLLOWED_SECONDS)
        seconds = time.monotonic() - began
        await load.flows(f"the eviction of {pod}")
        canopy.figures.append(f"leader of {unit} evicted: followed after {seconds:.1f} s; {await load.settle()}")
    await rolled_out(k.CLOUD, f"deployment/{unit}")


@pytest.mark.parametrize("unit", [*CONTROLLERS, "cloudhub", "nats"])
async def test_no_second_pod_is_evicted_while_one_is_away(canopy: Installation, unit: str) -> None:
    kind = "statefulset" if unit == "nats" else "deployment"
    first, second = [k.named(p) for p in await k.pods(f"app.kubernetes.io/name={unit}")][:2]
    await _evict(first)
    with pytest.raises(k.Refused, match="disruption budget"):
        await _evict(second)
    await rolled_out(k.CLOUD, f"{kind}/{unit}")


async def _evict(pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": k.CLOUD}}
    await k.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{k.CLOUD}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(body)
    )


async def _holder(unit: str) -> str:
    return str((await k.got("lease", f"canopy-{unit}", "-n", k.CLOUD))["spec"].get("holderIdentity") or "")


async def _leader(unit: str) -> tuple[str, str]:
    """The pod that leads, and what the Lease says."""
    holder = await _holder(unit)
    names = [k.named(p) for p in await k.pods(f"app.kubernetes.io/name={unit}")]
    found = [name for name in names if name in holder]
    assert len(found) == 1, f"the Lease of {unit} names {holder!r}; the pods are {names}"
    return found[0], holder
