"""Claim: each pod deleted in turn, under load: reports flow again, none that was answered is lost, none is older after
newer."""

import kubectl as k
import pytest
from installation import WORKLOADS, Installation, rolled_out
from world import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


async def test_each_pod_deleted_in_turn_loses_nothing(canopy: Installation) -> None:
    workloads = {name.rpartition("/")[2]: (namespace, name) for namespace, name in WORKLOADS}
    async with Load.on(await canopy.edges()) as load:
        await load.flows("the start")
        for namespace in (k.AGENTS, k.CLOUD, k.EDGE):
            for pod in await k.pods("app.kubernetes.io/name!=volumes", namespace):
                unit, name = k.unit_of(pod), k.named(pod)
                await k.kubectl("delete", "pod", "-n", namespace, name)
                await rolled_out(*workloads[unit])
                seconds = await load.flows(f"the end of {name}")
                canopy.figures.append(f"{name} deleted: reports flow {seconds:.1f} s after its successor is ready")
        canopy.figures.append(f"pods deleted in turn: {await load.settle()}")
