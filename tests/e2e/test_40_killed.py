"""Each container is killed in turn while devices of both nodes report: what was answered is never lost, nothing older
is shown after something newer, and all goes on, with a replica of a cloud unit missing and after an edge unit's return.
"""

import asyncio

from boxes import Box
from judging import load, said
from stories import Stories
from telling import say, step
from topology import Topology

LEAD_SECONDS = 40.0
"""A killed leader is followed when its Lease runs out (15 s)."""
SEEN_SECONDS = 30.0


async def test_each_unit_killed_in_turn(topology: Topology, stories: Stories) -> None:
    cloud = [box for boxes in topology.cloud.values() for box in boxes]
    edge = [box for node in topology.nodes.values() for box in (node.leaf, *node.units.values())]
    authority = [topology.spire.server, topology.spire.agent, *topology.helpers()]
    async with load(topology, stories) as devices:
        for box in (*cloud, topology.run.boxes["redis"]):
            await _killed(box, devices.moves, missing=True)
        for box in edge:
            await _killed(box, devices.moves, missing=False)
        with step("all helpers, and SPIRE's server and agent are killed; without them all is seen anew"):
            await asyncio.gather(*(box.kill() for box in authority))
            await devices.moves(LEAD_SECONDS)
        with step("they are back, and all is seen anew"):
            for boxes in ([topology.spire.server], [topology.spire.agent], topology.helpers()):
                await asyncio.gather(*(box.start() for box in boxes))
            await devices.moves(LEAD_SECONDS)
        with step("nothing answered is lost"):
            table = await devices.judged(SEEN_SECONDS)
        topology.figures["killed units"] = said(table)
        say(f"      {said(table)}")


async def _killed(box: Box, moves, missing: bool) -> None:  # type: ignore[no-untyped-def]
    """With `missing`, the others have to do without it for a while."""
    await box.kill()
    if missing:
        with step(f"{box.name} is killed; without it all is seen anew"):
            await moves(LEAD_SECONDS)
    with step(f"{box.name} is back, and all is seen anew"):
        await box.start()
        await moves(LEAD_SECONDS)
