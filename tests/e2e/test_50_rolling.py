"""Every cloud unit is updated, one replica after the other, while devices report: made anew from its image, nothing
kept but its volume. Nothing answered is lost, nothing older is shown later, and no device stops being seen."""

import os

import pytest
from cloud_box import image_of
from judging import load, said
from specs import TAG
from stories import Stories
from telling import say, step
from topology import Topology

pytestmark = pytest.mark.short
SEEN_SECONDS = 30.0
NEXT_TAG = os.environ.get("CANOPY_E2E_NEXT_TAG", TAG)


async def test_a_rolling_update_of_every_cloud_unit_under_load(topology: Topology, stories: Stories) -> None:
    async with load(topology, stories) as devices:
        for unit, replicas in topology.cloud.items():
            for box in replicas:
                with step(f"{box.name} is made anew, and all is seen anew"):
                    await box.remade(image=image_of(unit, NEXT_TAG))
                    await devices.moves(SEEN_SECONDS)
        with step("nothing answered is lost"):
            table = await devices.judged(SEEN_SECONDS)
        topology.figures["rolling update"] = said(table)
        say(f"      {said(table)}")
