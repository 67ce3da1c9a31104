"""What a device reports is in Kubernetes and in the fleet API within a second, from a split node and from a folded one,
over MQTT and over Modbus; and one trace leads from the device to the write in Kubernetes."""

import pytest
from judging import load, said
from lights import Lights
from stories import Stories
from telling import say, step
from topology import FOLDED, SPLIT, Topology

from canopy.testing.wait import until

pytestmark = pytest.mark.short
SEEN_SECONDS = 20.0


async def test_a_device_report(topology: Topology, stories: Stories) -> None:
    async with load(topology, stories) as devices:
        with step("every device of both nodes is seen in Kubernetes"):
            took = await devices.moves(SEEN_SECONDS)
        topology.figures["seconds until 12 devices are seen anew"] = round(took, 2)
        with step("what was answered is what is seen"):
            say(f"      {said(await devices.judged(SEEN_SECONDS))}")
    for node in (SPLIT, FOLDED):
        async with Lights(topology, stories, node) as light:
            with step(f"the light of {node} is flipped by hand, and seen so"):
                await light.flip(True)
                await stories.shows(light.name, {"switch": "true"}, SEEN_SECONDS)
    with step("one trace leads from DeviceTwin to Kubernetes"):
        await until(lambda: _whole_trace(topology), SEEN_SECONDS)


async def _whole_trace(topology: Topology) -> bool:
    units: dict[str, set[str]] = {}
    for span in await topology.spans():
        units.setdefault(span["trace"], set()).add(span["service"])
    return any({"devicetwin", "edgehub", "cloudhub", "devicecontroller"} <= seen for seen in units.values())
