"""Time passes on a node without its cloud: certificates and roots follow each other, and nobody notices."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiomqtt
import pytest

from canopy.identity.chains import verify_chain
from canopy.identity.svid import Bundle, Svid
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("edgeidentity")]
SVID_SECONDS, CA_SECONDS = 6, 60
COMING_SECONDS = 40


async def coming(stack: AsyncExitStack, node: Any, name: str) -> Any:
    """The device, let in. A CONNECT in the very moment of a reload may be lost in nats-server: a device says it again,
    and comes in."""

    async def tried() -> Any:
        try:
            return await stack.enter_async_context(node.device(name, seconds=5))
        except aiomqtt.MqttError:
            return None

    return await until(tried, COMING_SECONDS)


class Traffic:
    """A device that stays and one that comes and goes with a certificate of now; both count, until it is `over`: to be
    cancelled would be lost now and then in aiomqtt, whose bounds of time are those of Python before 3.12."""

    def __init__(self, node: Any) -> None:
        self._node, self.stayed, self.came, self.over = node, 0, 0, False

    async def stay(self, light: Any) -> None:
        while not self.over:
            await light.say(f"k{self.stayed}", "1")
            self.stayed += 1
            await asyncio.sleep(0.01)

    async def come_and_go(self) -> None:
        while not self.over:
            async with AsyncExitStack() as stack:
                lamp = await coming(stack, self._node, "lamp")
                await lamp.say(f"k{self.came}", "1")
            self.came += 1
            await asyncio.sleep(0.05)


@asynccontextmanager
async def traffic(node: Any) -> AsyncIterator[Traffic]:
    found = Traffic(node)
    async with AsyncExitStack() as stack:
        light = await coming(stack, node, "light")
        tasks = [asyncio.create_task(found.stay(light)), asyncio.create_task(found.come_and_go())]
        try:
            yield found
            for task in tasks:  # it has failed, if anything was refused
                assert not task.done(), task.exception()
        finally:
            found.over = True
            await asyncio.gather(*tasks, return_exceptions=True)
        held = await light.twin()
        assert {f"k{i}" for i in range(found.stayed)} <= held.keys()


def roots(node: Any) -> set[bytes]:
    return set(Bundle.read((node.folders.leaf / "bundle.pem").read_bytes()).roots_pem)


async def test_a_root_gives_way_to_the_next_under_traffic_and_no_message_or_connection_is_lost(open_node: Any) -> None:
    """When the test begins two roots are believed and the older signs: soon the younger signs, the older ends, and a
    third is believed. Tried without reloads: who comes when the certificate of the start has ended goes away again.
    """
    node = await open_node(svid_ttl_seconds=SVID_SECONDS, ca_ttl_seconds=CA_SECONDS, root_life=0.8)
    first = roots(node)  # the older one goes within seconds
    assert len(first) == 2
    await node.meta.set("light", "lamp")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    async with traffic(node) as seen:
        await until(lambda: len(roots(node) - first) == 1 and len(roots(node) & first) == 1, 60)
        came = seen.came
        await until(lambda: seen.came > came + 5)
    bundle = Bundle.read((node.folders.leaf / "bundle.pem").read_bytes())
    for unit in ("leaf", "units/devicetwin", "units/edge", "units/system"):
        svid = Svid.read((node.folders.root / unit / "svid.pem").read_bytes())
        assert verify_chain(svid.chain_pem, bundle, svid.not_before + 10)
    assert not node.lost, "connections were made anew before the old ones ended, and nobody lost one"


async def test_a_node_whose_link_ended_long_ago_starts_twice_works_on_and_takes_in_new_devices(open_node: Any) -> None:
    """The link's certificate lasted a minute, its authority ten, half an hour ago; the node's own last 6 s."""
    node = await open_node(svid_ttl_seconds=SVID_SECONDS, ca_ttl_seconds=CA_SECONDS, link_age_seconds=1800)
    await node.meta.set("light")
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    async with AsyncExitStack() as stack:
        light = await coming(stack, node, "light")
        await light.say("a", "1")
        assert await light.twin() == {"a": "1"}
    for number in range(2):
        await node.machine_restarts()
        await node.opened()
        await node.meta.set(*node.meta.names, f"new-{number}")
        async with AsyncExitStack() as stack:
            new, light = await coming(stack, node, f"new-{number}"), await coming(stack, node, "light")
            await new.say("b", "2")
            assert await new.twin() == {"b": "2"}
            assert await light.twin() == {"a": "1"}
    checks = {check.check: check.detail for check in node.health.checks}
    assert "ended 17" in checks["link-certificate"], "half an hour less its minute, in seconds"


async def test_a_leaf_that_was_left_alone_until_its_certificate_ended_is_told_to_read_its_files(open_node: Any) -> None:
    """Nobody can connect to it, this unit neither. Tried without the signal: nobody ever does."""
    node = await open_node(svid_ttl_seconds=SVID_SECONDS, ca_ttl_seconds=CA_SECONDS)
    await node.meta.set("light")
    await node.units_end()
    ended = Svid.read((node.folders.leaf / "svid.pem").read_bytes()).not_after
    await until(lambda: time.time() > ended, 10)
    await node.units_begin("edgeidentity", "devicetwin")
    await node.opened()
    async with AsyncExitStack() as stack:
        assert await coming(stack, node, "light")
