"""The permission matrix, cell by cell, at a real hub and a real leaf, over NATS and MQTT: what the servers let through
is what docs/permissions.md says, no less and no more. (A node's column is tried in test_hostile_node.)
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from callouts import RealCallout
from mqtt_peers import may_subscribe, topic

from canopy.bus import Connection
from canopy.bus.client import Dial
from canopy.bus.matrix import DEVICE, NODE, Peer, at_hub, at_leaf, cell, families
from canopy.identity import ids
from canopy.identity.natsjwt import Nkey
from canopy.identity.tls import client_context
from canopy.testing.domain import TD
from canopy.testing.wait import until
from canopy.testing.world import World, open_world

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("permissions")]
FAMILIES = families()
CALLOUT = RealCallout()
WATCHER = "watcher"
"""Nobody's user but the test's: it hears all that comes through."""
LAMP, APP = ids.device(TD, NODE, *DEVICE), ids.app(TD, NODE, "shop")
VIOLATION = re.compile(r'permissions violation for (publish|subscription) to "(.*)"', re.IGNORECASE)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("permissions"), answers=CALLOUT) as found:
        node = await found.node(NODE)
        node.invite(LAMP, APP)
        await found.leaf(NODE)
        assert node.leaf.config is not None
        watched = node.leaf.config.text().replace(
            "    users: [\n", f'    users: [\n      {{ user: "{node.id(WATCHER)}" }}\n', 1
        )
        node.leaf.server.configure(watched)
        node.leaf.server.reload()
        yield found


async def tried(connection: Connection) -> set[tuple[str, str]]:
    """(p or s, address) of every family that the server takes from this connection."""
    refused: set[tuple[str, str]] = set()

    async def error(e: Exception) -> None:
        if found := VIOLATION.search(str(e)):
            refused.add(("p" if found[1].lower() == "publish" else "s", found[2]))

    async def nothing(_: Any) -> None:
        pass

    client = connection.client
    client._error_cb = error
    for family in FAMILIES:
        if not set(family.address) & set("*>"):  # a message cannot be said to many subjects
            await client.publish(family.address, b"{}")
        await client.subscribe(family.address, cb=nothing)
    assert await client.flushed() and await client.flushed()
    every = {(way, family.address) for family in FAMILIES for way in "ps"}
    wild = {("p", family.address) for family in FAMILIES if set(family.address) & set("*>")}
    low = {(way, address.lower()) for way, address in refused}
    return {(way, address) for way, address in every - wild if (way, address.lower()) not in low}


def expected(peer: Peer) -> set[tuple[str, str]]:
    return {(way, f.address) for f in FAMILIES for way in cell(peer, f) if way == "s" or not set(f.address) & set("*>")}


KEYS: dict[str, Callable[[World], Nkey]] = {
    "spire_integration": lambda world: world.keys.cloud,
    "its callout": lambda world: world.keys.auth,
    "its system": lambda world: world.keys.sys,
}


@pytest.mark.parametrize("peer", [p for p in at_hub() if p.way != "leaf node"], ids=lambda p: p.name)
async def test_a_unit_at_the_hub_may_what_its_column_says(peer: Peer, world: World) -> None:
    unit, key = ("spire_integration", KEYS[peer.name](world)) if peer.name in KEYS else (peer.name, None)
    connection = await world.at_hub(unit, key)
    assert await tried(connection) == expected(peer)
    await connection.close(False)


@pytest.mark.parametrize("peer", [p for p in at_leaf() if p.way == "NATS"], ids=lambda p: p.name)
async def test_a_unit_at_the_leaf_may_what_its_column_says(peer: Peer, world: World) -> None:
    connection = await world.nodes[NODE].at_leaf(peer.name)
    assert await tried(connection) == expected(peer)
    await connection.close(False)


MQTT_IDS = {"a device": LAMP, "an app": APP}


@pytest.mark.parametrize("peer", [p for p in at_leaf() if p.way == "MQTT"], ids=lambda p: p.name)
async def test_who_speaks_mqtt_at_the_leaf_may_what_its_column_says(peer: Peer, world: World) -> None:
    node = world.nodes[NODE]
    watcher = await until(lambda: node.at_leaf(WATCHER), 20)
    came: list[tuple[str, bytes]] = []

    async def take(message: Any) -> None:
        came.append((message.subject, message.data))

    await watcher.subscribe(">", take)
    async with await node.mqtt(MQTT_IDS[peer.name], timeout=5) as one:
        subscribed = {("s", f.address) for f in FAMILIES if await may_subscribe(one, f.address)}
        await _publish(one, peer.name.encode())
    published = await _arrived(watcher, peer.name.encode(), came)
    assert subscribed | published == expected(peer)
    await watcher.close(False)


async def _publish(one: aiomqtt.Client, mark: bytes) -> None:
    """All that can be said, QoS 0, 1 and 2."""
    for qos in (0, 1, 2):
        for family in FAMILIES:
            if not set(family.address) & set("*>"):
                await one.publish(topic(family.address), mark, qos=qos)


async def _arrived(watcher: Connection, mark: bytes, came: list[tuple[str, bytes]]) -> set[tuple[str, str]]:
    """What has come through of it: the leaf gives it to the watcher before what the watcher says now."""
    await watcher.publish("the.end", mark)
    await until(lambda: ("the.end", mark) in came)
    arrived = [subject for subject, body in came if body == mark and not subject.startswith("$MQTT.")]
    arrived.remove("the.end")
    assert all(arrived.count(subject) == 3 for subject in arrived), arrived
    return {("p", subject) for subject in arrived}


async def test_a_unit_speaks_no_mqtt_and_a_device_no_nats(world: World) -> None:
    node = world.nodes[NODE]
    with pytest.raises(aiomqtt.MqttError):
        async with await node.mqtt(node.id("devicetwin"), timeout=5):
            pass
    await _refused(world, node.leaf.client_url, node.id("leaf"), await node.files(LAMP))


@pytest.mark.parametrize("who", ["edgehub", "hub", "spire_integration"])
async def test_a_certificate_of_the_fleet_without_a_place_is_refused_and_audited(who: str, world: World) -> None:
    id = ids.hub(TD) if who == "hub" else ids.cloud(TD, who)
    await _refused(world, world.hub.client_url, ids.hub(TD), await world.files(id))
    assert str(id) in CALLOUT.refusals()


async def _refused(world: World, url: str, peer: ids.SpiffeId, identity: Any) -> None:
    """A connection is tried, and the server ends it for want of a right to be there."""
    tls, refused = client_context(identity, frozenset({peer})), []

    async def error(e: Exception) -> None:
        refused.append(str(e))

    dial = Dial((url,), "stranger", 0.1)
    trying = asyncio.create_task(dial(tls, error))
    try:
        await until(lambda: [text for text in refused if "uthoriz" in text or "does not take" in text], 15)
        assert not trying.done()
    finally:
        trying.cancel()
        await asyncio.gather(trying, return_exceptions=True)
