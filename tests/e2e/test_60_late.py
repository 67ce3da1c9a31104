"""An edge that joins late, by a token: the hub drops nobody, the node's devices may be in Kubernetes before it has
come, and it serves them within seconds."""

import pytest
from judging import load, said
from lights import Lights
from stories import Stories
from telling import say, step
from topology import FOLDED_UNITS, Topology

pytestmark = pytest.mark.short
LATE = "edge-3"
SEEN_SECONDS = 20.0


async def test_an_edge_that_joins_late(topology: Topology, stories: Stories) -> None:
    here = list(topology.nodes)
    async with load(topology, stories, here) as others:
        before = await topology.connections()
        try:
            with step("a new node joins with a token, and starts"):
                await topology.add_node(LATE, FOLDED_UNITS)
            with step("nobody else was dropped"):
                assert before <= await topology.connections()
            async with load(topology, stories, [LATE]) as devices:
                with step("its devices are seen"):
                    await devices.moves(SEEN_SECONDS)
                    say(f"      {said(await devices.judged(SEEN_SECONDS))}")
            async with Lights(topology, stories, LATE) as light:
                with step("its light is seen"):
                    await light.flip(True)
                    await stories.shows(light.name, {"switch": "true"}, SEEN_SECONDS)
        finally:
            await topology.remove_node(LATE)
        with step("the others have gone on"):
            await others.moves(SEEN_SECONDS)
            say(f"      {said(await others.judged(SEEN_SECONDS))}")
