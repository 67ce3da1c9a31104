"""Claim: a rolling update of every workload of the cloud, and of the edge, under load, loses nothing."""

import asyncio
import time

import kubectl as k
import pytest
from installation import WORKLOADS, Installation, rolled_out
from world import Load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


async def test_a_rolling_update_under_load_loses_nothing(canopy: Installation) -> None:
    async with Load.on(await canopy.edges()) as load:
        await load.flows("the start")
        began = time.monotonic()
        for wave in (WORKLOADS[:1], WORKLOADS[1:3], WORKLOADS[3:]):  # SPIRE, its agents, and who asks them
            await asyncio.gather(*(k.kubectl("rollout", "restart", "-n", n, name) for n, name in wave))
            await asyncio.gather(*(rolled_out(n, name) for n, name in wave))
        seconds = time.monotonic() - began
        await load.flows("the rolling update")
        canopy.figures.append(f"rolling update of all: {seconds:.1f} s; {await load.settle()}")
