"""Every connection is known by a certificate, and nobody has a password: a machine joins with a token, which is good
once; its device reports with a certificate of the node, and Kubernetes shows it. One replica of spire_integration that
is killed is not noticed; with SPIRE stopped connected nodes go on, and renewals wait; a revoked node is cut within
10 s, and let in again by a word."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from counting import Counting
from stories import Stories
from telling import say, step
from trusted import IDENTITY, NODE, NODE_SECONDS, SPIRE_INTEGRATION, Trusted

from canopy.testing.wait import until

SEEN_SECONDS, CUT_SECONDS, BACK_SECONDS = 20.0, 10.0, 60.0
DEVICES = ("known-1", "known-2")
WITHOUT_A_CERTIFICATE = """
import socket, ssl
context = ssl._create_unverified_context()
plain = socket.create_connection(("hub", 4222), 3)
print(plain.recv(4096)[:4])
try:
    with context.wrap_socket(plain) as tls:
        tls.sendall(b'CONNECT {"verbose":false}\\r\\nPING\\r\\n')
        print(tls.recv(4096) or "closed")
except OSError as e:
    print("refused", e)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def told(fleet: Trusted) -> AsyncIterator[Stories]:
    async with fleet.kube() as kube, fleet.api() as api:
        stories = Stories(fleet, kube, api)  # type: ignore[arg-type]
        await stories.prepare()
        yield stories


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def devices(fleet: Trusted, told: Stories) -> AsyncIterator[list[Counting]]:
    """The node has joined with a token, and its devices count, each with its certificate."""
    with step(f"a token for {NODE}, and the machine joins with it"):
        await fleet.hold_node()
        token = await _token(fleet)
        code, said = await fleet.command("join", "join", "--token", token, "--dir", IDENTITY)
        assert code == 0, said
        for line in said.splitlines():
            say(f"      {line}")
    with step("the same token is refused, and the refusal says why"):
        code, said = await fleet.command("again", "join", "--token", token, "--dir", "/tmp/again")
        assert code != 0 and "used" in said, said
    with step("its leaf and its units run"):
        await fleet.start_node()
    with step("its devices get certificates on the node, and report"):
        for name in DEVICES:
            await told.create(name, on=NODE)
        found = []
        for name in DEVICES:
            credentials = await _credentials(fleet, name)
            found.append(Counting(name, fleet.mqtt_port, credentials.context()))
    async with found[0].counts(), found[1].counts():
        for one in found:
            await one.goes_on()
        yield found


@pytest.mark.short
async def test_a_report_reaches_kubernetes_and_no_server_has_a_password(
    fleet: Trusted, told: Stories, devices: list[Counting]
) -> None:
    with step("Kubernetes shows what was answered"):
        await _shown(told, devices)
    with step("the hub knows the node by its certificate only; nobody comes in without one"):
        leaf = (await fleet.leaves())[0]
        assert NODE in str(leaf), leaf
        code, said = await fleet.run.boxes["hub"].run_inside("grep", "-ci", "password", "/etc/nats/hub.conf")
        assert (code, said.strip()) == (1, "0"), said
        code, said = await fleet.cloud["cloudhub"][0].run_inside("python3", "-c", WITHOUT_A_CERTIFICATE)
        assert "PONG" not in said, said


async def test_a_device_cannot_speak_as_another(fleet: Trusted, told: Stories, devices: list[Counting]) -> None:
    import aiomqtt
    from talk import device

    one, other = devices
    with step("what it says in the other's name changes nothing"):
        body = json.dumps({"event_id": "9", "twin": {"spoofed": {"actual": {"value": "1"}}}})
        client = aiomqtt.Client("localhost", fleet.mqtt_port, identifier="spoof", tls_context=one._tls)
        async with client:
            await client.publish(f"{device(other.name)}/twin/update", body, qos=1)
            await client.publish(f"{device(one.name)}/twin/update", body, qos=1)
        await _shows(told, one.name, "spoofed")  # so this connection is good, and the other message was before it
        assert "spoofed" not in await told.status(other.name)


async def test_one_replica_of_spire_integration_killed_is_not_noticed(
    fleet: Trusted, told: Stories, devices: list[Counting]
) -> None:
    for killed in fleet.cloud[SPIRE_INTEGRATION]:
        with step(f"{killed.name} is killed, and reports go on"):
            await killed.kill()
            for one in devices:
                await one.goes_on()
            await _shown(told, devices)
            assert not [d.refused for d in devices if d.refused]
        with step("a unit and the node that connect anew come in by the other one"):
            await fleet.cloud["cloudhub"][0].remade()
            await fleet.run.boxes[f"{NODE}-net"].cut("uplink")
            await until(lambda: _gone(fleet), 30)
            await fleet.run.boxes[f"{NODE}-net"].join("uplink")
            await until(lambda: _linked(fleet), BACK_SECONDS)
            await _shown(told, devices, BACK_SECONDS)
        await killed.start()


async def test_with_spire_stopped_connected_nodes_go_on_and_renewals_wait(
    fleet: Trusted, told: Stories, devices: list[Counting]
) -> None:
    with step("SPIRE's server and agent are stopped; reports go on"):
        await fleet.spire.stop()
        await fleet.run.boxes["spire-agent"].kill()
        for one in devices:
            await one.goes_on()
        await _shown(told, devices)
    with step(f"the node's certificate ends ({NODE_SECONDS} s): its devices and units talk on"):
        await until(lambda: _gone(fleet), NODE_SECONDS + 30)
        for one in devices:
            await one.goes_on()
    with step("SPIRE is back: the node renews by its own key, and what was said meanwhile is seen"):
        await fleet.spire.start()
        await fleet.run.boxes["spire-agent"].start()
        await until(lambda: _linked(fleet), 120)
        await _shown(told, devices, BACK_SECONDS)


@pytest.mark.short
async def test_a_revoked_node_is_cut_and_a_restored_one_comes_back(
    fleet: Trusted, told: Stories, devices: list[Counting]
) -> None:
    with step("revoked: cut, and kept out"):
        began = time.monotonic()
        await told.api.post(f"nodes/{NODE}/revoke", {"reason": "the story wants it"})
        await until(lambda: _gone(fleet), CUT_SECONDS)
        fleet.figures["seconds until a revoked node is cut"] = round(time.monotonic() - began, 1)
        most = {one.name: one.sent for one in devices}  # what came before may still be on its way to Kubernetes
        for _ in range(3):
            for one in devices:
                await one.goes_on()  # a node's own trust is its own
        shown = {name: int((await told.status(name))["t"]) for name in most}
        assert await _gone(fleet) and all(shown[name] <= most[name] for name in most), (shown, most)
    with step("the audit says so"):
        found = str(await told.api.get("audit?who=" + NODE))
        assert "revoke" in found, found
    with step("restored: it comes back with the certificate it has, or renews it"):
        await told.api.post(f"nodes/{NODE}/restore", {})
        await until(lambda: _linked(fleet), 120)
        await _shown(told, devices, BACK_SECONDS)


# --- in words ---------------------------------------------------------------------------------------------------------
async def _token(fleet: Trusted) -> str:
    async with fleet.api() as api:
        answer = await api.post(f"nodes/{NODE}/token", {})
    return str(answer["token"])


async def _credentials(fleet: Trusted, name: str):  # type: ignore[no-untyped-def]
    """Once the node knows the device."""
    last = ""
    for _ in range(20):
        try:
            return await fleet.credentials(name)
        except AssertionError as e:
            last = str(e)
            await asyncio.sleep(1)
    raise AssertionError(last)


async def _shown(told: Stories, devices: list[Counting], seconds: float = SEEN_SECONDS) -> None:
    """Kubernetes shows of each what was answered by now, or something newer."""
    wanted = {one.name: one.answered for one in devices}

    async def newer() -> bool:
        return all([int((await told.status(name)).get("t", "0")) >= value for name, value in wanted.items()])

    try:
        await until(newer, seconds)
    except TimeoutError:
        shown = {name: await told.status(name) for name in wanted}
        raise AssertionError(f"answered {wanted}, shown {shown} after {seconds:g} s") from None


async def _shows(told: Stories, name: str, prop: str) -> None:
    async def there() -> bool:
        return prop in await told.status(name)

    await until(there, SEEN_SECONDS)


async def _gone(fleet: Trusted) -> bool:
    return not await fleet.leaves()


async def _linked(fleet: Trusted) -> bool:
    return bool(await fleet.leaves())
