"""Certificates of connections that come and go, at a real hub with an auth callout."""

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from canopy.bus import Connection
from canopy.bus.config import Cluster, Hub, Leaf, route_url
from canopy.bus.rights import device_rights
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.identity import ids
from canopy.identity.identity import read_identity, write_identity
from canopy.identity.sources import FileSource
from canopy.testing.domain import TD, minted
from canopy.testing.servers import NAME, nats_binary
from canopy.testing.wait import until
from canopy.testing.world import HUB_FILES, NODE, World, open_world

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("rotation")]
PRESENCE = c.PRESENCE.at(node="edge-1")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(tmp_path) as found:
        yield found


async def test_nats_server_takes_every_configuration_that_is_made_with_certificates(world: World) -> None:
    node = await world.node("edge.1")
    routes = (route_url("localhost:6222", "s"),)
    device = (str(ids.device(TD, "edge.1", "default", "lamp")), device_rights("default", "lamp", "edge.1"))
    leaf = Leaf(str(world.folder / "l"), "tls://localhost:7422", replace(node.trust, devices=(device,)))
    texts = {
        "hub": Hub(str(world.folder / "h"), world.trust).text(),
        "one of three": Hub("h", world.trust, cluster=Cluster("hub-1", "127.0.0.1:6222", "s", routes)).text(),
        "leaf": leaf.text(),
        "gated leaf": replace(leaf, trust=replace(node.trust, devices=(device,), gated=True)).text(),
    }
    for name, text in texts.items():
        file = world.folder / "tried.conf"
        file.write_text(text)
        done = await asyncio.to_thread(
            subprocess.run, [nats_binary(), "-t", "-c", file], capture_output=True, text=True, timeout=20
        )
        assert done.returncode == 0, (name, done.stderr)
    assert "default/lamp" in texts["leaf"] and "default/lamp" not in texts["gated leaf"]


async def test_a_newer_certificate_is_taken_and_nothing_is_lost_heard_twice_or_out_of_order(world: World) -> None:
    says, hears = await world.at_hub("cloudhub"), await world.at_hub("edgecontroller")
    heard: list[bytes] = []
    lost: list[str] = []
    for connection in (says, hears):
        connection.on_lost(lambda: lost.append("lost"))

    async def take(message: object) -> None:
        heard.append(message.data)  # type: ignore[attr-defined]
        if len(heard) % 100 == 0:
            await asyncio.sleep(0.002)  # a handler that is busy when its connection goes

    await hears.subscribe(PRESENCE, take)
    await hears.flush()
    said, talking = 0, asyncio.Event()

    async def talk() -> None:
        nonlocal said
        while not talking.is_set():
            said += 1
            await says.publish(PRESENCE, str(said).encode())
            if said % 10 == 0:
                await asyncio.sleep(0.001)

    task = asyncio.create_task(talk())
    for _ in range(2):
        for unit, connection in (("edgecontroller", hears), ("cloudhub", says)):
            await _renewed(world, unit, connection)
    talking.set()
    await task
    with contextlib.suppress(TimeoutError):
        await until(lambda: len(heard) >= said, 30)  # a busy machine hears more slowly than it speaks
    assert len(heard) == said
    assert heard == [str(n + 1).encode() for n in range(said)] and said > 1000
    assert lost == []


async def test_what_is_being_answered_when_the_certificate_changes_is_answered(world: World) -> None:
    asks, serves = await world.cloud("cloudhub"), await world.cloud("devicecontroller")
    asked, may = asyncio.Event(), asyncio.Event()

    async def page(ask: wire.SetAsk, place: object) -> wire.PageAnswer:
        asked.set()
        await may.wait()
        return wire.PageAnswer(verdict="busy", reason="there")

    await serves.serve(c.SET_PAGE, page, concurrency=2)
    waiting = asyncio.create_task(asks.ask(c.SET_PAGE, _set_ask(), timeout=20, channel="devices"))
    await asked.wait()
    await _renewed(world, "devicecontroller", serves.connection)
    await _renewed(world, "cloudhub", asks.connection)
    may.set()
    assert (await waiting).reason == "there"
    assert (await asks.ask(c.SET_PAGE, _set_ask(), timeout=5, channel="devices")).reason == "there"


async def test_what_is_being_answered_at_a_leaf_while_a_device_comes_is_answered(world: World) -> None:
    await world.leaf()
    node, asks, serves = world.nodes[NODE], await world.edge("mapper"), await world.edge("devicetwin")
    asked, may = asyncio.Event(), asyncio.Event()
    report = wire.MapperReport(namespace="default", name="lamp", mapper="m1", seq=1)

    async def taken(report: wire.MapperReport, place: object) -> wire.MapperResult:
        asked.set()
        await may.wait()
        return wire.MapperResult(outcome="there")

    await serves.serve(c.TWIN_REPORT, taken)
    waiting = asyncio.create_task(asks.ask(c.TWIN_REPORT, report, timeout=20))
    await asked.wait()
    node.invite(ids.device(TD, NODE, "default", "lamp"))
    node.reload()
    await until(lambda: "Reloaded server configuration" in node.leaf.server.log.read_text(), 10)
    may.set()
    assert (await waiting).outcome == "there"


async def test_a_connection_whose_certificate_ended_comes_back_with_the_next_one(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    folder = await world.files(ids.cloud(TD, "cloudhub"), 5)  # long enough to connect on a busy machine
    hub = await world.connect(folder, world.hub.client_url, ids.hub(TD))
    heard, back = [], []

    async def take(message: object) -> None:
        heard.append(message.data)  # type: ignore[attr-defined]

    async def hook() -> None:
        back.append("back")

    await hub.subscribe(c.CLOUD_HEALTH.wild(), take)
    hub.on_reconnect(hook)
    await until(lambda: not hub.connected)
    assert read_identity(folder) == hub.identity, "nobody wrote another one"
    await hub.publish(c.CLOUD_HEALTH.at(unit="cloudhub"), b"kept meanwhile")
    await world.files(ids.cloud(TD, "cloudhub"), into=folder)
    await until(lambda: hub.connected and back and heard, 15)
    assert heard == [b"kept meanwhile"] and back == ["back"]
    assert hub.identity is not None and hub.identity.svid.serial == read_identity(folder).svid.serial


async def test_who_is_not_the_hub_gets_no_connection_and_is_named(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    folder = await world.files(ids.cloud(TD, "cloudhub"))
    expected = frozenset({ids.node(TD, "edge-1")})
    opening = asyncio.create_task(
        Connection.open(world.hub.client_url, name="x", identity=FileSource(folder), expected=expected)
    )
    with caplog.at_level(logging.WARNING):
        await until(lambda: f"the peer is {ids.hub(TD)}" in caplog.text, 10)
    assert not opening.done()
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)


async def _renewed(world: World, unit: str, connection: Connection) -> None:
    """Write the next certificate of `unit`, and wait until its connection has it."""
    before = connection.client
    folder = await world.files(ids.cloud(TD, unit), 30, into=world.folder / "identities" / f"cloud-{unit}")
    identity = read_identity(folder)
    await until(lambda: connection.identity == identity and connection.client is not before, 15)


def _set_ask() -> wire.SetAsk:
    return wire.SetAsk(node="edge-1", ask=wire.PageAsk())


async def test_the_servers_of_a_clustered_hub_are_one_hub_with_certificates(tmp_path: Path) -> None:
    async with open_world(tmp_path, hub_servers=3) as world:
        first, second = world.hub.client_url.split(",")[1:]
        says = await world.connect(await world.files(ids.cloud(TD, "cloudhub")), first, ids.hub(TD))
        folder = await world.files(ids.cloud(TD, "edgecontroller"))
        hears = await world.connect(folder, second, ids.hub(TD))
        heard: list[bytes] = []

        async def take(message: object) -> None:
            heard.append(message.data)  # type: ignore[attr-defined]

        await hears.subscribe(PRESENCE, take)

        async def said() -> bool:
            await says.publish(PRESENCE, b"across")
            return bool(heard)

        await until(said, 15)
        await _renewed(world, "edgecontroller", hears)
        heard.clear()
        await until(said, 15)
        await says.flush()
        await until(lambda: hears.connected and says.connected, 15)
        await _all_read_a_new_certificate(world, says, hears, heard)


async def _all_read_a_new_certificate(world: World, says: Connection, hears: Connection, heard: list[bytes]) -> None:
    """All servers of the hub at one moment, while one speaks: who is connected stays, and hears everything."""
    lost: list[str] = []
    for connection in (says, hears):
        connection.on_lost(lambda: lost.append("lost"))
    said = 0

    async def read() -> bool:
        nonlocal said
        said += 1
        await says.publish(PRESENCE, str(said).encode())
        return all("Reloaded server configuration" in server.log.read_text() for server in world.hub.servers)

    assert not await read()
    write_identity(world.folder / HUB_FILES, await minted(world.authority, ids.hub(TD), dns=(NAME,)))
    for server in world.hub.servers:
        server.reload()
    await until(read, 15)
    await until(lambda: heard[-1:] == [str(said).encode()], 15)
    assert heard[-said:] == [str(n + 1).encode() for n in range(said)]
    assert lost == []
