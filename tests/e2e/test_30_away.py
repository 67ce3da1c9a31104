"""A node that was away: its devices are answered all the while, and when it is back Kubernetes shows the last state of
each and the node does what was wished meanwhile, within seconds; nothing answered is lost, nothing older shown later.
"""

import time

from judging import load, said
from lights import Lights
from stories import Stories
from telling import say, step
from topology import FOLDED, Topology

from canopy.testing.wait import until

BACK_SECONDS = 30.0
SEEN_SECONDS = 15.0


async def test_a_node_that_was_away(topology: Topology, stories: Stories) -> None:
    node = topology.nodes[FOLDED]
    async with load(topology, stories, [FOLDED]) as devices, Lights(topology, stories, FOLDED) as light:
        await light.flip(False)
        await stories.shows(light.name, {"switch": "false"}, SEEN_SECONDS)
        try:
            with step("the link is cut, and every device is answered a hundred times more"):
                await node.cut()
                await devices.answered_more(100, 90)
            with step("Kubernetes wishes the light on, and the node does not hear it"):
                await stories.api.set_desired("default", light.name, {"switch": "true"})
                assert not await light.is_on()
        finally:
            await node.join()
        began = time.monotonic()
        with step("the link is back: every device is seen anew"):
            await devices.moves(BACK_SECONDS)
        topology.figures["seconds from the link's return until all is seen"] = round(time.monotonic() - began, 1)
        with step("the light is on"):
            await until(light.is_on, SEEN_SECONDS)
            await stories.shows(light.name, {"switch": "true"}, SEEN_SECONDS)
        with step("nothing answered is lost"):
            say(f"      {said(await devices.judged(SEEN_SECONDS))}")
