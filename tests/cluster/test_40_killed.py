"""Claim: a pod of each workload, and each server of the hub, deleted in turn, under load: reports flow again, none that
was answered is lost, none is older after newer."""

import kubectl as k
import pytest
from installation import WORKLOADS, Installation, ready_pods, rolled_out, until_ready
from world import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


async def test_a_pod_of_each_workload_deleted_in_turn_loses_nothing(canopy: Installation) -> None:
    workloads = {name.rpartition("/")[2]: (namespace, name) for namespace, name in WORKLOADS}
    async with Load.on(await canopy.edges()) as load:
        await load.flows("the start")
        for unit, name in await _chosen():
            namespace, workload = workloads[unit]
            before = len(await ready_pods(namespace, unit))
            await k.delete_pod(name, namespace)
            await until_ready(namespace, unit, before)
            await rolled_out(namespace, workload)
            seconds = await load.flows(f"the end of {name}")
            canopy.figures.append(f"{name} deleted: reports flow {seconds:.1f} s after its successor is ready")
        canopy.figures.append(f"pods deleted in turn: {await load.settle()}")


async def _chosen() -> list[tuple[str, str]]:
    """(unit, pod): one of each unit, and every server of the hub."""
    pods = [p for n in (k.AGENTS, k.CLOUD, k.EDGE) for p in await k.pods("app.kubernetes.io/name!=volumes", n)]
    first = {k.unit_of(pod): k.named(pod) for pod in reversed(pods)}
    return [(unit, k.named(pod)) for pod in pods if (unit := k.unit_of(pod)) == "nats" or first[unit] == k.named(pod)]
