"""Every connection is known by a certificate, and nobody has a password: a machine joins with a token, which is good
once; its device reports with a certificate of the node, and Kubernetes shows it. One replica of spire_integration that
is killed is not noticed; with SPIRE stopped connected nodes go on, and renewals wait; a revoked node is cut within
10 s, and let in again by a word."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import aiomqtt
import pytest
import pytest_asyncio
from boxes import Box
from counting import Counting
from node_box import FOLDER, IDENTITY, Node
from spire_box import SPIRE_INTEGRATION
from stories import Stories
from talk import device
from telling import say, step
from topology import FOLDED_UNITS, Topology

from canopy.testing.wait import until

NAME = "edge-7"
SEEN_SECONDS, CUT_SECONDS, BACK_SECONDS = 20.0, 10.0, 60.0
NODE_SECONDS = 60
"""How long a certificate of a node lasts in this file: several of them pass while its stories are stories."""
LASTS = "CANOPY_SPIRE_INTEGRATION_NODE_TTL_SECONDS"
DEVICES = ("known-1", "known-2")
WITHOUT_A_CERTIFICATE = """
import socket, ssl
context = ssl._create_unverified_context()
plain = socket.create_connection(("hub-1", 4222), 3)
print(plain.recv(4096)[:4])
try:
    with context.wrap_socket(plain) as tls:
        tls.sendall(b'CONNECT {"verbose":false}\\r\\nPING\\r\\n')
        print(tls.recv(4096) or "closed")
except OSError as e:
    print("refused", e)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def node(topology: Topology) -> AsyncIterator[Node]:
    """It has joined with a token, and gets a new certificate twice a minute."""
    with step(f"spire_integration is told that certificates of nodes last {NODE_SECONDS} s"):
        for box in topology.cloud[SPIRE_INTEGRATION]:
            await _told(box, {LASTS: str(NODE_SECONDS)})
    try:
        with step(f"a token for {NAME}, and the machine joins with it"):
            found = topology.nodes[NAME] = await topology.machines.machine(NAME, FOLDED_UNITS)
            token = await topology.machines.token(NAME)
            code, said = await found.command("join", "--token", token, "--dir", FOLDER)
            assert code == 0, said
        for line in said.splitlines():
            say(f"      {line}")
        with step("the same token is refused, and the refusal says why"):
            code, said = await found.command("join", "--token", token, "--dir", "/tmp/again")
            assert code != 0 and "used" in said, said
        with step("its leaf and its units run"):
            await topology.machines.started(found)
        yield found
    finally:
        await topology.remove_node(NAME)
        await asyncio.gather(*(_told(box) for box in topology.cloud[SPIRE_INTEGRATION]))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def devices(node: Node, stories: Stories) -> AsyncIterator[list[Counting]]:
    """They count, each with its certificate."""
    async with contextlib.AsyncExitStack() as stack:
        with step("its devices get certificates on the node, and report"):
            for name in DEVICES:
                await stories.create(name, on=NAME)
            contexts = await node.contexts(*DEVICES)
            found = [Counting(name, node.mqtt_port, contexts[name]) for name in DEVICES]
            for one in found:
                await stack.enter_async_context(one.counts())
            for one in found:
                await one.goes_on()
        yield found
    for name in DEVICES:
        await stories.kube.delete("Device", name)


@pytest.mark.short
async def test_a_report_reaches_kubernetes_and_no_server_has_a_password(
    topology: Topology, node: Node, stories: Stories, devices: list[Counting]
) -> None:
    with step("Kubernetes shows what was answered"):
        await _shown(stories, devices)
    with step("the hub knows the node by its certificate only; nobody comes in without one"):
        assert await topology.leaves(NAME)
        for server in topology.hub:
            _, said = await server.run_inside("grep", "-i", "password", "/etc/nats/nats.conf")
            assert all("user: route" in line for line in said.splitlines()), said
        code, said = await node.leaf.run_inside("grep", "-i", "password", f"{IDENTITY}/nats.conf")
        assert (code, said) == (1, ""), said
        code, said = await topology.cloud["cloudhub"][0].run_inside("python3", "-c", WITHOUT_A_CERTIFICATE)
        assert "PONG" not in said, said


async def test_a_device_cannot_speak_as_another(
    topology: Topology, node: Node, stories: Stories, devices: list[Counting]
) -> None:
    one, other = devices
    with step("what it says in the other's name changes nothing"):
        body = json.dumps({"event_id": "9", "twin": {"spoofed": {"actual": {"value": "1"}}}})
        client = aiomqtt.Client("localhost", node.mqtt_port, identifier="spoof", tls_context=one._tls)
        async with client:
            await client.publish(f"{device(other.name)}/twin/update", body, qos=1)
            await client.publish(f"{device(one.name)}/twin/update", body, qos=1)
        await _shows(stories, one.name, "spoofed")  # so this connection is good, and the other message was before it
        assert "spoofed" not in await stories.status(other.name)


async def test_one_replica_of_spire_integration_killed_is_not_noticed(
    topology: Topology, node: Node, stories: Stories, devices: list[Counting]
) -> None:
    for killed in topology.cloud[SPIRE_INTEGRATION]:
        with step(f"{killed.name} is killed, and reports go on"):
            await killed.kill()
            for one in devices:
                await one.goes_on()
            await _shown(stories, devices)
            assert not [d.refused for d in devices if d.refused]
        with step("a unit and the node that connect anew come in by the other one"):
            await topology.cloud["cloudhub"][0].remade()
            await node.cut()
            await until(lambda: _gone(topology), 30)
            await node.join()
            await until(lambda: _linked(topology), BACK_SECONDS)
            await _shown(stories, devices, BACK_SECONDS)
        await killed.start()


async def test_with_spire_stopped_connected_nodes_go_on_and_renewals_wait(
    topology: Topology, stories: Stories, devices: list[Counting]
) -> None:
    with step("SPIRE's server and agent are stopped; reports go on"):
        await topology.spire.server.stop()
        await topology.spire.agent.kill()
        for one in devices:
            await one.goes_on()
        await _shown(stories, devices)
    with step(f"the node's certificate ends ({NODE_SECONDS} s): its devices and units talk on"):
        await until(lambda: _gone(topology), NODE_SECONDS + 30)
        for one in devices:
            await one.goes_on()
    with step("SPIRE is back: the node renews by its own key, and what was said meanwhile is seen"):
        await topology.spire.server.start()
        await topology.spire.agent.start()
        await until(lambda: _linked(topology), 120)
        await _shown(stories, devices, BACK_SECONDS)


@pytest.mark.short
async def test_a_revoked_node_is_cut_and_a_restored_one_comes_back(
    topology: Topology, stories: Stories, devices: list[Counting]
) -> None:
    with step("revoked: cut, and kept out"):
        began = time.monotonic()
        await stories.api.post(f"nodes/{NAME}/revoke", {"reason": "the story wants it"})
        await until(lambda: _gone(topology), CUT_SECONDS)
        topology.figures["seconds until a revoked node is cut"] = round(time.monotonic() - began, 1)
        most = {one.name: one.sent for one in devices}  # what came before may still be on its way to Kubernetes
        for _ in range(3):
            for one in devices:
                await one.goes_on()  # a node's own trust is its own
        shown = {name: int((await stories.status(name))["t"]) for name in most}
        assert await _gone(topology) and all(shown[name] <= most[name] for name in most), (shown, most)
    with step("the audit says so"):
        found = str(await stories.api.get("audit?who=" + NAME))
        assert "revoke" in found, found
    with step("restored: it comes back with the certificate it has, or renews it"):
        await stories.api.post(f"nodes/{NAME}/restore", {})
        await until(lambda: _linked(topology), 120)
        await _shown(stories, devices, BACK_SECONDS)


# --- in words ---------------------------------------------------------------------------------------------------------
async def _told(box: Box, lasts: dict[str, str] | None = None) -> None:
    """Made anew, with this setting or with none."""
    env = {name: value for name, value in box.spec.env.items() if name != LASTS}
    await box.remade(env=env | (lasts or {}))


async def _shown(stories: Stories, devices: list[Counting], seconds: float = SEEN_SECONDS) -> None:
    """Kubernetes shows of each what was answered by now, or something newer."""
    wanted = {one.name: one.answered for one in devices}

    async def newer() -> bool:
        return all([int((await stories.status(name)).get("t", "0")) >= value for name, value in wanted.items()])

    try:
        await until(newer, seconds)
    except TimeoutError:
        shown = {name: await stories.status(name) for name in wanted}
        raise AssertionError(f"answered {wanted}, shown {shown} after {seconds:g} s") from None


async def _shows(stories: Stories, name: str, prop: str) -> None:
    async def there() -> bool:
        return prop in await stories.status(name)

    await until(there, SEEN_SECONDS)


async def _gone(topology: Topology) -> bool:
    return not await topology.leaves(NAME)


async def _linked(topology: Topology) -> bool:
    return bool(await topology.leaves(NAME))
