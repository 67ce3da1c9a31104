"""The hub's cluster loses one server, each in turn, while devices of both nodes report: what was answered is not lost,
nothing older is shown later, and whichever server a leaf or a unit was on, it is back within seconds."""

import pytest
from judging import load, said
from stories import Stories
from telling import say, step
from topology import Topology

pytestmark = pytest.mark.short
BACK_SECONDS = 40.0
"""Raft elects a stream's leader within 4 to 9 s; an address that is gone is given up after 5 s more."""


async def test_the_hub_loses_one_server(topology: Topology, stories: Stories) -> None:
    took = []
    async with load(topology, stories) as devices:
        for server in topology.hub:
            with step(f"{server.name} is killed, and all is seen anew"):
                await server.kill()
                took.append(round(await devices.moves(BACK_SECONDS), 1))
            with step(f"{server.name} is back, and all is seen anew"):
                await server.start()
                await devices.moves(BACK_SECONDS)
        with step("nothing answered is lost"):
            table = await devices.judged(BACK_SECONDS)
        topology.figures["lost hub server"] = said(table)
        topology.figures["seconds until all is seen anew without a hub server"] = ", ".join(map(str, took))
        say(f"      {said(table)}")
