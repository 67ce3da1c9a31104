"""Credentials of devices, from the command line to a real gateway, with stock MQTT clients: what is given opens, what
was taken back or is another's does not, and all of it is in the audit.
"""

import asyncio
import json
import shlex
import ssl
import subprocess
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
from typer.testing import CliRunner

from canopy.bus import Place
from canopy.cli.failure import Failure
from canopy.cli.main import application
from canopy.contracts import admin as admin_words
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch
from canopy.contracts.wire import Verdict
from canopy.identity.builtin import Builtin
from canopy.testing.child import HOST, free_port
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("edgeidentity")]
SECONDS = 30


async def canopy(node: Any, *arguments: str, code: int = 0) -> Any:
    """The command line's JSON; its words where it is refused."""
    socket = str(node.folders.root / "admin.sock")
    more = [str(node.directory / a) if arguments[i - 1] == "--out" else a for i, a in enumerate(arguments)]
    command = ["device", *more, "--socket", socket, "--output", "json"]
    done = await asyncio.to_thread(CliRunner(env={"SUDO_USER": "alice"}).invoke, application(), command)
    if code:
        assert isinstance(done.exception, Failure) and done.exception.code == code, done.output
        return str(done.exception)
    assert done.exit_code == 0, (done.output, done.exception)
    return json.loads(done.output)


async def tried(node: Any, line: str) -> bool:
    """Whether the line that was printed works, as it stands."""
    words = shlex.split(line)
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, timeout=SECONDS, cwd=node.directory)
    return done.returncode == 0


def by_password(node: Any, ca: str, port: int, user: str, password: str, **more: Any) -> aiomqtt.Client:
    tls = ssl.create_default_context(cafile=str(node.directory / ca))
    return aiomqtt.Client("localhost", port, username=user, password=password, tls_context=tls, **more)


async def let_in(client: aiomqtt.Client) -> bool:
    try:
        async with client:
            return True
    except aiomqtt.MqttError:
        return False


async def opened(open_node: Any, *names: str, **settings: Any) -> tuple[Any, list[Any]]:
    """A node with these devices, its gate open, and the audit as the cloud would get it."""
    node, audit = await open_node(**settings), list[Any]()
    hub = await node.bus("edgehub")

    async def take(batch: AuditBatch, place: Place[AuditBatch]) -> Verdict:
        audit.extend(batch.records)
        return Verdict()

    await hub.serve(c.HUB_AUDIT, take)
    await node.meta.set(*names)
    await node.start("edgeidentity", "devicetwin")
    await node.opened()
    return node, audit


async def test_a_device_is_provisioned_revoked_and_provisioned_anew(open_node: Any, tmp_path: Path) -> None:
    log = tmp_path / "node" / "identity" / "nats.log"
    node, audit = await opened(open_node, "light", "fan", leaf_log=log)
    given = await canopy(node, "provision", "default/light", "--out", "here", "--ttl", "1h")
    assert given["id"] == f"spiffe://{domain(node)}/device/default/light" and not given["later"]
    files = {name: (node.directory / given[name]).stat().st_mode & 0o777 for name in ("cert", "key", "ca")}
    assert set(files.values()) == {0o600}
    await until(lambda: _tried(node, given["try"]), SECONDS)
    stolen = certificate(node, "here")
    assert await node.let_in("light", stolen)

    async with node.device("light", stolen) as light:
        await canopy(node, "revoke", "light", "--reason", "stolen")
        await until(light.client._disconnected.done)
    assert not await node.let_in("light", stolen) and not await tried(node, given["try"])

    anew = await canopy(node, "provision", "light", "--out", "anew")
    assert anew["id"] == given["id"] + "/1"
    assert await tried(node, anew["try"]) and not await node.let_in("light", stolen)
    await node.meta.set("fan")
    await until(lambda: _refused(node, "light", certificate(node, "anew")))
    await node.meta.set("light", "fan")
    await until(lambda: _let_in(node, "light", certificate(node, "anew")))
    assert not await node.let_in("light", stolen), "what was revoked is not good again because the device came back"

    assert "set spec.nodeName" in await canopy(node, "provision", "default/lamp", code=3)
    await until(lambda: [r for r in audit if (r.subject, r.outcome) == ("default/lamp", "refused")])
    decided = [r for r in audit if r.what in ("provision", "revocation") and r.subject != "default/lamp"]
    assert [(r.what, r.outcome, r.subject, r.reason) for r in decided] == [
        ("provision", "ok", "default/light", ""),
        ("revocation", "ok", "default/light", "stolen"),
        ("provision", "ok", "default/light", ""),
    ]
    assert decided[0].who.endswith("(alice)") and decided[0].serial and decided[0].not_after
    came = [r for r in audit if r.what == "admission" and r.reason == "leaf, mqtt"]
    assert {r.who for r in came} >= {given["id"], anew["id"]} and {r.where for r in came} == {HOST}
    refused = {r.id: r for r in audit if (r.what, r.outcome) == ("admission", "refused")}
    assert {r.where for r in refused.values() if "nobody that the leaf lets in" in r.reason} == {HOST}
    foreign = Builtin(tmp_path / "foreign", domain(node))
    assert await hung_up_on(node, await node.tls("light", foreign))
    assert await hung_up_on(node, ssl.create_default_context(cafile=str(node.directory / "here" / "ca.pem")))

    def by_tls() -> bool:
        reasons = " ".join(r.reason for r in audit if r.reason.startswith("TLS: "))
        return "of another authority" in reasons and "no client certificate" in reasons

    await until(by_tls)
    link = f"spiffe://{node.shared.trust_domain}/node/{node.shared.node_name}"
    assert not [r for r in audit if r.who == link]
    await node.link()
    (rotated,) = await until(lambda: [r for r in audit if r.who == link])
    assert rotated.what == "rotation" and rotated.serial


async def test_a_certificate_that_ends_ends_the_connection_and_a_newer_one_stays_in(
    open_node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_words, "SHORTEST_TTL_SECONDS", 1)
    node, audit = await opened(open_node, "light", "fan")
    await canopy(node, "provision", "default/fan", "--out", "fan", "--ttl", "1h")
    await canopy(node, "provision", "default/light", "--out", "short", "--ttl", "6s")
    short = certificate(node, "short")
    async with node.device("light", short) as light, node.device("fan", certificate(node, "fan")) as fan:
        await canopy(node, "provision", "default/light", "--out", "long", "--ttl", "1h")
        await until(light.client._disconnected.done)
        assert not fan.client._disconnected.done()
    assert await hung_up_on(node, short) and await node.let_in("light", certificate(node, "long"))
    await until(lambda: [r for r in audit if r.what == "end" and r.subject == "default/light"])


async def test_devices_with_a_password_are_themselves_and_nobody_else(open_node: Any) -> None:
    port = free_port()
    node, audit = await opened(open_node, "light", "fan", front_listen=f"{HOST}:{port}")
    given = await canopy(node, "token", "default/light", "--out", "here")
    assert given["token"] not in "".join(p.read_text() for p in node.folders.root.rglob("*.json"))
    assert given["port"] == port and await tried(node, given["try"])
    ca, token = given["ca"], given["token"]

    async with by_password(node, ca, port, "default.light", token, identifier="same") as light:
        await light.subscribe("$hw/events/device/default/light/twin/get/result", qos=1)
        await light.publish("$hw/events/device/default/light/twin/get", json.dumps({"event_id": "e"}), qos=1)
        async with asyncio.timeout(10):
            answer = await anext(aiter(light.messages))
        assert json.loads(answer.payload)["event_id"] == "e"
        (granted,) = await light.subscribe("$hw/events/device/default/fan/twin/get/result")
        assert granted.is_failure
        fan = await canopy(node, "token", "default/fan", "--out", "fan")
        async with by_password(node, ca, port, "default/fan", fan["token"], identifier="same"):
            body = json.dumps({"event_id": "f"})
            await light.publish("$hw/events/device/default/light/twin/get", body, qos=1)
            async with asyncio.timeout(10):
                assert json.loads((await anext(aiter(light.messages))).payload)["event_id"] == "f"
        newer = await canopy(node, "token", "default/light", "--out", "newer")
        await until(light._disconnected.done)
    assert not await let_in(by_password(node, ca, port, "default/light", token))
    assert not await let_in(by_password(node, ca, port, "default/fan", newer["token"]))
    assert await let_in(by_password(node, ca, port, "default/light", newer["token"]))
    await canopy(node, "revoke", "default/light")
    assert not await let_in(by_password(node, ca, port, "default/light", newer["token"]))
    await until(lambda: [r for r in audit if r.what == "revocation"])
    front = [r for r in audit if r.what == "admission" and r.who.startswith("default/")]
    said = {(r.what, r.outcome, r.who) for r in front}
    assert said == {
        ("admission", "ok", "default/light"), ("admission", "ok", "default/fan"),
        ("admission", "refused", "default/light"), ("admission", "refused", "default/fan"),
    }  # fmt: skip
    assert {r.where for r in front} == {HOST}


async def test_the_plain_port_is_there_only_by_name_and_says_so(open_node: Any) -> None:
    port = free_port()
    node, _ = await opened(open_node, "light", plain_listen=f"{HOST}:{port}")
    (check,) = [check for check in node.health.checks if check.check == "plain-mqtt"]
    assert check.ok and f"{HOST}:{port}" in check.detail and "any device" in check.detail
    async with aiomqtt.Client(HOST, port, username="anybody", password="anything") as client:
        await client.subscribe("$hw/events/device/default/light/#")
        await client.publish("$hw/events/device/default/light/twin/get", json.dumps({"event_id": "e"}), qos=1)
        async with asyncio.timeout(10):
            async for message in client.messages:
                if str(message.topic).endswith("/result"):
                    break
        await client.publish("$hw/events/device/default/light/twin/cloud_updated", "{}", qos=0)
    assert "FRONT_LISTEN" in await canopy(node, "token", "default/light", code=1)


def certificate(node: Any, folder: str) -> ssl.SSLContext:
    """As a device elsewhere has it: copied, so that what comes later changes nothing."""
    here = node.directory / folder
    context = ssl.create_default_context(cafile=str(here / "ca.pem"))
    context.load_cert_chain(here / "cert.pem", here / "key.pem")
    return context


async def hung_up_on(node: Any, tls: ssl.SSLContext) -> bool:
    """Whether TLS itself refuses a client: with 1.3 it learns of it when it reads."""
    try:
        async with asyncio.timeout(5):
            reader, _ = await asyncio.open_connection("localhost", node.mqtt_port, ssl=tls)
            return not await reader.read(1)
    except OSError:
        return True


def domain(node: Any) -> str:
    return f"{node.shared.node_name}.{node.shared.trust_domain}"


async def _tried(node: Any, line: str) -> bool:
    return await tried(node, line)


async def _let_in(node: Any, name: str, tls: ssl.SSLContext) -> bool:
    return bool(await node.let_in(name, tls))


async def _refused(node: Any, name: str, tls: ssl.SSLContext) -> bool:
    return not await node.let_in(name, tls)
