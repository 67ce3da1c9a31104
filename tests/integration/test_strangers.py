"""Certificates that are not good, at every port: tampered, ended, foreign, self-signed, of a node's own authority, and
none at all. And devices that would be others, over MQTT.
"""

import asyncio
import re
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from callouts import RealCallout
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from mqtt_peers import topic
from raw_leaf import NotAdmitted, RawLeaf, context_of

from canopy.bus.trust import tls_block
from canopy.contracts import catalogue as c
from canopy.identity import ids, keys
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Svid
from canopy.testing.child import HOST, free_port
from canopy.testing.clock import FrozenClock
from canopy.testing.domain import TD, minted
from canopy.testing.servers import NatsServer
from canopy.testing.wait import until
from canopy.testing.world import HUB_FILES, World, open_world

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("strangers")]
NODE, OTHER = "edge.1", "edge-2"
LAMP, SPY = (ids.device(TD, NODE, "default", name) for name in ("lamp", "spy"))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with open_world(tmp_path_factory.mktemp("strangers"), answers=RealCallout()) as found:
        for name in (NODE, OTHER):
            node = await found.node(name)
            node.invite(*(ids.device(TD, name, "default", device) for device in ("lamp", "spy")))
            await found.leaf(name)
        yield found


# --- who has no good certificate -------------------------------------------------------------------------------------
Make = Callable[[World, Builtin, SpiffeId], Awaitable[Identity]]


async def tampered(world: World, authority: Builtin, id: SpiffeId) -> Identity:
    """One byte of the signature is another one."""
    good = await minted(authority, id)
    leaf = x509.load_pem_x509_certificate(good.svid.chain_pem)
    der = bytearray(leaf.public_bytes(Encoding.DER))
    der[-1] ^= 1
    chain = ssl.DER_cert_to_PEM_cert(bytes(der)).encode()
    svid = Svid(id, chain, good.svid.key_pem, good.svid.not_before, good.svid.not_after, good.svid.serial)
    return Identity(svid, good.bundle)


async def ended(world: World, authority: Builtin, id: SpiffeId) -> Identity:
    """Minted by the same roots, for a minute that is over."""
    clock = FrozenClock(round((time.time() - 600) * 1000))
    earlier = Builtin(authority._folder, authority.trust_domain, clock=clock)
    found = await minted(earlier, id, 60)
    return Identity(found.svid, await authority.bundle())


async def foreign(world: World, authority: Builtin, id: SpiffeId) -> Identity:
    """Of another authority that calls itself the same."""
    other = Builtin(world.folder / "foreign" / id.trust_domain, id.trust_domain)
    return Identity((await minted(other, id)).svid, await authority.bundle())


async def of_a_nodes_own_authority(world: World, authority: Builtin, id: SpiffeId) -> Identity:
    """What whoever has a node can make: a certificate of that node's authority, for a unit there."""
    node = world.nodes[NODE if authority.trust_domain != world.nodes[NODE].authority.trust_domain else OTHER]
    return Identity((await minted(node.authority, node.id("edgehub"))).svid, await authority.bundle())


async def of_a_nodes_own_authority_for_somebody_of_the_fleet(
    world: World, authority: Builtin, id: SpiffeId
) -> Identity:
    """The same, with the name of whom it would be: its owner has the key of the root."""
    own = world.nodes[NODE if authority.trust_domain != world.nodes[NODE].authority.trust_domain else OTHER].authority
    posing = Builtin(own._folder, id.trust_domain)
    return Identity((await minted(posing, id)).svid, await authority.bundle())


async def signed_by_itself(world: World, authority: Builtin, id: SpiffeId) -> Identity:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "whoever")])
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(str(id))])
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now - timedelta(1), now + timedelta(1))
    pem = made.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return Identity(Svid.of(pem, keys.private_pem(key)), await authority.bundle())


MAKES: list[Make] = [
    signed_by_itself,
    tampered,
    ended,
    foreign,
    of_a_nodes_own_authority,
    of_a_nodes_own_authority_for_somebody_of_the_fleet,
]


@pytest.mark.parametrize("make", MAKES, ids=lambda make: make.__name__)
async def test_who_has_no_good_certificate_gets_into_no_port(make: Make, world: World) -> None:
    node = world.nodes[NODE]
    fleet = world.folder / HUB_FILES / "bundle.pem"
    at = [
        (_port(world.hub.client_url), world.authority, ids.cloud(TD, "cloudhub"), fleet),
        (_port(node.leaf.client_url), node.authority, node.id("edgehub"), node.roots),
    ]
    for port, authority, id, roots in at:
        assert await _greeted(port, await _written(world, await minted(authority, id)), roots), "a good one is let in"
        assert not await _greeted(port, await _written(world, await make(world, authority, id)), roots)
    bad = await _written(world, await make(world, world.authority, ids.node(TD, OTHER)))
    with pytest.raises(NotAdmitted):
        await RawLeaf.open(world.hub.leaf_port, context_of(bad, fleet), "stranger")
    own, mqtt = node.roots, node.leaf.mqtt_port
    assert await _connected(mqtt, await _written(world, await minted(node.authority, LAMP)), own), (
        "a good one is let in"
    )
    assert not await _connected(mqtt, await _written(world, await make(world, node.authority, LAMP)), own)


async def test_who_has_no_certificate_gets_into_no_port(world: World) -> None:
    node = world.nodes[NODE]
    own, fleet = node.roots, world.folder / HUB_FILES / "bundle.pem"
    assert not await _greeted(_port(world.hub.client_url), None, fleet)
    assert not await _greeted(_port(node.leaf.client_url), None, own)
    with pytest.raises(NotAdmitted):
        await RawLeaf.open(world.hub.leaf_port, _context(None, fleet), "stranger")
    assert not await _connected(node.leaf.mqtt_port, None, own)


async def test_a_leaf_believes_no_hub_that_is_not_the_fleets(world: World) -> None:
    """A node's certificate, which the fleet's authority signed, makes no hub of whoever stole it."""
    thief, deceived = await world.node("thief"), await world.node("deceived")
    stolen, port = thief.folder / "link", free_port()
    tls = tls_block(str(stolen / "svid.pem"), str(stolen / "bundle.pem"))
    config = f'listen: "{HOST}:{free_port()}"\nleafnodes {{ listen: "{HOST}:{port}", {tls} }}\n'
    false_hub = await NatsServer.open(config, world.folder / "false", (port,))
    real, world.hub = world.hub, replace(world.hub, leaf_ports=(port,))
    try:
        running = await world.leaf(deceived.name)
        await until(lambda: re.search(r"TLS leafnode handshake error: .*x509", running.server.log.read_text()), 15)
        assert "x509" in running.server.log.read_text()
    finally:
        world.hub = real
        await false_hub.kill()


# --- who would be another device -------------------------------------------------------------------------------------
CLOUD_UPDATED = "twin.cloud_updated"


async def test_a_device_that_would_be_another_changes_nothing(world: World) -> None:
    """By its topics, of any QoS and retained; by a last will; by its client id, whose session it would go on with."""
    node = world.nodes[NODE]
    came = list[tuple[str, bytes]]()
    twin = await node.at_leaf("devicetwin")

    async def take(message: Any) -> None:
        came.append((message.subject, message.data))

    for subject in c.MQTT_IN:
        await twin.subscribe(subject.wild(), take)
    await twin.flush()
    lamps = {"namespace": "default", "name": "lamp"}
    update, result = c.TWIN_UPDATE.at(**lamps), c.TWIN_UPDATE_RESULT.at(**lamps)
    async with await node.mqtt(LAMP, identifier="lamp", clean_session=False) as one:
        await one.subscribe(topic(result), qos=1)
    will = aiomqtt.Will(topic(update), b"spoofed", qos=1)
    async with await node.mqtt(SPY, identifier="lamp", clean_session=False, will=will) as one:
        for subject in (update, update.replace("twin.update", CLOUD_UPDATED), c.STATE_UPDATE.at(**lamps)):
            for qos in (0, 1, 2):
                await one.publish(topic(subject), b"spoofed", qos=qos, retain=True)
        await twin.publish(result, b"what the lamp is told")
        await one.publish(topic(c.TWIN_UPDATE.at(namespace="default", name="spy")), b"its own", qos=1)
        await until(lambda: came, 10)
        one._client._sock_close()  # its last will is said
        with pytest.raises((TimeoutError, aiomqtt.MqttError)):
            async with asyncio.timeout(1):
                async for heard in one.messages:
                    raise AssertionError(f"it heard {heard.topic}")
    will = aiomqtt.Will(topic(c.TWIN_UPDATE.at(namespace="default", name="spy")), b"its own will", qos=1)
    async with await node.mqtt(SPY, will=will) as one:
        one._client._sock_close()
        await until(lambda: len(came) == 2, 10)
    async with await node.mqtt(LAMP, identifier="lamp") as one:
        await one.publish(topic(update), b"the lamp's", qos=1)
        await until(lambda: len(came) == 3, 10)
    assert [body for _, body in came] == [b"its own", b"its own will", b"the lamp's"]


# --- how it is tried -------------------------------------------------------------------------------------------------
async def _greeted(port: int, identity: Path | None, roots: Path) -> bool:
    """Whether a NATS client is let in at this port."""
    connect = b'CONNECT {"verbose":false,"name":"stranger"}\r\nPING\r\n'
    return (await _answer(port, identity, roots, connect, info=True)).startswith(b"PONG")


async def _connected(port: int, identity: Path | None, roots: Path) -> bool:
    """Whether an MQTT client is let in at this port."""
    connect = b"\x10\x15\x00\x04MQTT\x04\x02\x00\x3c\x00\x09somebody1"
    return await _answer(port, identity, roots, connect) == b"\x20\x02\x00\x00"


async def _answer(port: int, identity: Path | None, roots: Path, says: bytes, info: bool = False) -> bytes:
    """The first bytes that come after `says`; none if TLS fails or the server closes."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        async with asyncio.timeout(15):
            if info:
                await reader.readline()
            await writer.start_tls(_context(identity, roots), server_hostname="localhost")
            writer.write(says)
            return await reader.read(4)
    except OSError:
        return b""
    finally:
        writer.transport.abort()


def _context(identity: Path | None, roots: Path) -> ssl.SSLContext:
    if identity is not None:
        return context_of(identity, roots)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(roots)
    return context


async def _written(world: World, identity: Identity) -> Path:
    folder = world.folder / "tried" / uuid.uuid4().hex
    write_identity(folder, identity)
    return folder


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
