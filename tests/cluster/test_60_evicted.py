"""Claim: a leader's pod is evicted by the Eviction API within its PodDisruptionBudget; the other replica leads, and
nothing is lost. What the budget does not allow is refused."""

import json
import time

import kubectl as k
import pytest
from installation import Installation, ready_pods, until_ready
from world import Load, until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
FOLLOWED_SECONDS = 40.0
"""A leader that had no time to give its Lease back is followed when that runs out (15 s)."""
ALLOWED_SECONDS = 60.0
CONTROLLERS = ("devicecontroller", "edgecontroller")
REPLICAS, HUB_SERVERS = 2, 3


@pytest.mark.parametrize("unit", CONTROLLERS)
async def test_an_evicted_leader_is_followed_and_nothing_is_lost(canopy: Installation, unit: str) -> None:
    async with Load.on(await canopy.edges()) as load:
        await load.flows("the start")
        pod, holder = await _leader(unit)
        await _evicted(pod)
        began = time.monotonic()

        async def other_leads() -> bool:
            return bool((now := await _holder(unit)) and now != holder)

        await until(f"another replica of {unit} leads", other_leads, FOLLOWED_SECONDS)
        seconds = time.monotonic() - began
        await load.flows(f"the eviction of {pod}")
        canopy.figures.append(f"leader of {unit} evicted: followed after {seconds:.1f} s; {await load.settle()}")
    await until_ready(k.CLOUD, unit, REPLICAS)


@pytest.mark.parametrize("unit", [*CONTROLLERS, "cloudhub", "nats"])
async def test_no_second_pod_is_evicted_while_one_is_away(canopy: Installation, unit: str) -> None:
    pods = HUB_SERVERS if unit == "nats" else REPLICAS
    await until_ready(k.CLOUD, unit, pods)
    first, second, *_ = await ready_pods(k.CLOUD, unit)
    await _evicted(first)
    with pytest.raises(k.Refused, match="disruption budget"):
        await _evict(second)
    await until_ready(k.CLOUD, unit, pods)


async def _evicted(pod: str) -> None:
    """As soon as its budget allows: who counts the pods may have to hear first that all are ready."""

    async def done() -> bool:
        await _evict(pod)
        return True

    await until(f"{pod} may be evicted", done, ALLOWED_SECONDS)


async def _evict(pod: str) -> None:
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": k.CLOUD}}
    await k.kubectl(
        "create", "--raw", f"/api/v1/namespaces/{k.CLOUD}/pods/{pod}/eviction", "-f", "-", stdin=json.dumps(body)
    )


async def _holder(unit: str) -> str:
    return str((await k.got("lease", f"canopy-{unit}", "-n", k.CLOUD))["spec"].get("holderIdentity") or "")


async def _leader(unit: str) -> tuple[str, str]:
    """The pod that leads, and what the Lease says."""

    async def leads() -> tuple[str, str] | None:
        holder = await _holder(unit)
        return next(((name, holder) for name in await ready_pods(k.CLOUD, unit) if name in holder), None)

    found: tuple[str, str] = await until(f"the Lease of {unit} names one of its pods", leads, FOLLOWED_SECONDS)
    return found
