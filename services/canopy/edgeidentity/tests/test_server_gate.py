"""The gate of rule 29, with a real nats-server and a real DeviceTwin: who is let in, when, and what is not lost."""

import asyncio
import shutil
from typing import Any

import aiomqtt
import pytest

from canopy.edgeidentity.leafward import Leafward
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("edgeidentity")]


async def test_no_device_is_let_in_before_devicetwin_has_taken_its_position(open_node: Any) -> None:
    node = await open_node()
    await node.meta.set("light")
    await node.start("edgeidentity")
    await until(lambda: "DeviceTwin" in node.gate())
    assert not await node.let_in("light")
    await node.start("devicetwin")
    await node.opened()
    assert await node.let_in("light")
    assert not await node.let_in("lamp")


async def test_nothing_is_lost_when_the_leaf_is_killed_and_its_stream_comes_back_shorter(open_node: Any) -> None:
    """A power cut takes the end of the stream, and its sequences are used again. Tried without the gate (the open form
    left on the disk): what a device says before DeviceTwin is back bears sequences that are done, and is passed over.
    """
    node = await open_node()
    await node.meta.set("light")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    light = await node.tls("light")
    async with node.device("light", light) as one:
        await asyncio.gather(*(one.say(f"a{i}", "1") for i in range(10)))
        await until(lambda: _holds(one, "a", 10))
    await node.leaf.stop()
    shutil.copytree(node.folders.store, node.directory / "copy")
    await node.leaf.start()
    await node.opened()
    async with node.device("light", light) as one:
        await asyncio.gather(*(one.say(f"b{i}", "1") for i in range(30)))
        await until(lambda: _holds(one, "b", 30))
    await node.stop("devicetwin")
    await node.leaf.kill()
    shutil.rmtree(node.folders.store)
    shutil.copytree(node.directory / "copy", node.folders.store)
    await node.leaf.start()
    await until(lambda: "DeviceTwin" in node.gate())
    assert not await node.let_in("light", light)
    coming = asyncio.create_task(_come_and_say(node, light, "c", 20))
    await node.start("devicetwin")
    await coming
    async with node.device("light", light) as one:
        await until(lambda: _holds(one, "c", 20))
        held = await one.twin()
        assert {f"{key}{i}" for key, count in (("a", 10), ("b", 30), ("c", 20)) for i in range(count)} <= set(held)


async def _come_and_say(node: Any, tls: Any, key: str, count: int) -> None:
    """As a device does: it tries until it is let in, and each report until it has its PUBACK."""
    while True:
        try:
            async with node.device("light", tls) as one:
                await asyncio.gather(*(one.say(f"{key}{i}", "1") for i in range(count)))
                return
        except aiomqtt.MqttError:
            await asyncio.sleep(0.02)


async def _holds(one: Any, key: str, count: int) -> bool:
    return set(await one.twin()) >= {f"{key}{i}" for i in range(count)}


async def _kept_out(node: Any, tls: Any) -> bool:
    return not await node.let_in("light", tls)


async def test_the_gate_stays_open_when_edgeidentity_starts_again_and_closes_with_a_crash_of_the_leaf(
    open_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, look = asyncio.Event(), Leafward.look

    async def looked(leafward: Leafward) -> None:
        if looks.is_set():
            await look(leafward)

    monkeypatch.setattr("canopy.edgeidentity.leafward.LOOK_SECONDS", 0.2)
    monkeypatch.setattr(Leafward, "look", looked)  # not before it has been seen that the devices are out
    node = await open_node()
    await node.meta.set("light")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    closed = node.folders.config.read_text()
    assert "light" not in closed
    light = await node.tls("light")
    async with node.device("light", light) as one:
        await node.stop("edgeidentity", "devicetwin")  # DeviceTwin is away: it need not say anything again
        await node.start("edgeidentity")
        await node.opened()
        await node.start("devicetwin")
        await one.say("a", "1")
        assert (await one.twin())["a"] == "1"
        assert node.folders.config.read_text() == closed
    node.leaf.reload()  # an operator's SIGHUP reads what lies on the disk: no device
    await until(lambda: _kept_out(node, light))
    looks.set()
    await until(lambda: node.let_in("light", light))
    await node.stop("edgeidentity")
    await node.leaf.restart(kill=True)
    assert not await node.let_in("light", light)
    await node.start("edgeidentity")
    await node.opened()
    assert await node.let_in("light", light)
