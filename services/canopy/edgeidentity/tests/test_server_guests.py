"""Devices on a real leaf: they come and go without anybody else noticing, and each speaks and hears as itself only."""

import asyncio
import json
import ssl
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from canopy.bus.system import System
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("edgeidentity")]
HW = "$hw/events/device/default/"


async def test_devices_come_and_go_and_no_other_connection_is_dropped(open_node: Any) -> None:
    node = await open_node()
    await node.meta.set("light")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    async with System(await node.connection("system")) as system, node.device("light") as light:
        before = {one.cid for one in await system.connections()}
        lamp = await node.tls("lamp")
        assert not await node.let_in("lamp", lamp)
        await node.meta.set("light", "lamp")
        await until(lambda: node.let_in("lamp", lamp))
        async with node.device("lamp", lamp) as gone:
            await gone.say("a", "1")
            await node.meta.set("light")
            with pytest.raises(aiomqtt.MqttError):
                while True:  # its user goes, and it with it
                    await gone.say("a", "2")
                    await asyncio.sleep(0.02)
        assert not await node.let_in("lamp", lamp)
        await light.say("a", "1")
        assert (await light.twin())["a"] == "1"
        assert before <= {one.cid for one in await system.connections()}
    assert not node.lost


async def test_a_device_speaks_as_itself_and_hears_what_is_for_it(open_node: Any) -> None:
    """A forbidden publish is not refused to its face (MQTT 3.1.1 has no way), so what it did not do is looked at."""
    node = await open_node()
    await node.meta.set("light", "lamp")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    async with node.device("lamp") as lamp, node.device("light") as light:
        await lamp.say("mine", "1")
        before = await lamp.twin()
        twin = json.dumps({"twin": {"mine": {"actual": {"value": "2"}, "metadata": {"type": "string"}}}})
        spoofs = ["lamp/twin/update", "light/twin/cloud_updated", "lamp/twin/cloud_updated", "lamp/state/update"]
        for qos in (0, 1):
            for topic in (*(HW + spoof for spoof in spoofs), "meta/changed/devices", "twin/report", "edge/link"):
                await light.client.publish(topic, twin, qos=qos)
        await light.say("own", "1")  # what it said before has been through
        assert (await light.twin()).keys() == {"own"}
        assert await lamp.twin() == before
        for foreign in ("lamp/#", "lamp/twin/update/result", "+/twin/get/result"):
            try:
                granted = await light.client.subscribe(HW + foreign, qos=1)
            except aiomqtt.MqttError:
                continue
            assert all(code == 128 for code in map(_code, granted))
        await lamp.twin()
        assert all(topic.startswith(f"{HW}light/") for topic, _ in light.heard)


def _code(reason: Any) -> int:
    return int(getattr(reason, "value", reason))


async def test_who_is_no_device_of_this_node_is_not_let_in(open_node: Any, tmp_path: Path) -> None:
    node = await open_node()
    await node.meta.set("light")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    for domain in ("edge.1.canopy.test", "edge-2.canopy.test"):  # another's authority of this name; a neighbour's
        stranger, id = Builtin(tmp_path / domain, domain), ids.SpiffeId(domain, "/device/default/light")
        assert not await node.let_in("light", await node.tls("light", stranger, id), seconds=1)
    for unit in ("devicetwin", "edge", "system"):  # of this node, and no device
        assert not await node.let_in("light", await node.tls("light", id=ids.local("canopy.test", "edge.1", unit)))
    nobody = ssl.create_default_context(cafile=str(node.folders.leaf / "bundle.pem"))
    assert not await node.let_in("light", nobody, seconds=1)
    assert await node.let_in("light")
