"""What Kubernetes or the fleet API wishes of a device is done by the device within seconds, at a split node and at a
folded one, and its answer is seen in Kubernetes."""

import pytest
from lights import Lights
from stories import Stories
from telling import step
from topology import FOLDED, SPLIT, Topology

from canopy.testing.wait import until

pytestmark = pytest.mark.short
DONE_SECONDS = 20.0


@pytest.mark.parametrize("node", [SPLIT, FOLDED])
async def test_a_desired_change(topology: Topology, stories: Stories, node: str) -> None:
    async with Lights(topology, stories, node) as light:
        with step("the light is seen, and off"):
            await light.flip(False)
            await stories.shows(light.name, {"switch": "false"}, DONE_SECONDS)
        with step("the fleet API wishes it on"):
            await stories.api.set_desired("default", light.name, {"switch": "true"})
            await until(light.is_on, DONE_SECONDS)
            await stories.shows(light.name, {"switch": "true"}, DONE_SECONDS)
        with step("an edit of the Device, as kubectl makes it, wishes it off"):
            device = await stories.kube.get("Device", light.name)
            properties = device["spec"]["properties"]
            next(one for one in properties if one["name"] == "switch")["desired"] = {"value": "false"}
            await stories.kube.patch("Device", light.name, {"spec": {"properties": properties}})
            await until(lambda: _off(light), DONE_SECONDS)
            await stories.shows(light.name, {"switch": "false"}, DONE_SECONDS)


async def _off(light: Lights) -> bool:
    return not await light.is_on()
