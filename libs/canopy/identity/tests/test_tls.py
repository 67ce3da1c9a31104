"""Both ends in this process, over loopback: what OpenSSL and asyncio really do."""

import asyncio
import contextlib
import http.client
import http.server
import ssl
import threading

import pytest

from canopy.identity import ids, roots
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.svid import Bundle, Svid, make_csr, new_key
from canopy.identity.tls import WrongPeer, client_context, server_context
from canopy.testing.clock import FrozenClock

TD = "canopy.test"
HUB, NODE, OTHER = ids.hub(TD), ids.node(TD, "edge-1"), ids.node(TD, "edge-2")
KEYS = {id: new_key() for id in (HUB, NODE, OTHER)}


@pytest.fixture
def authority(tmp_path):
    return Builtin(tmp_path / "authority", TD)


async def identity(authority, id, ttl_seconds=600.0) -> Identity:
    key = KEYS.setdefault(id, new_key())
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=ttl_seconds)
    return Identity(Svid.of(minted.chain_pem, key), await authority.bundle())


async def talked(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """What the client hears from a server that greets whoever its handshake lets in."""

    async def greet(reader, writer):
        with contextlib.suppress(ConnectionError):
            serial = ssl.DER_cert_to_PEM_cert(writer.get_extra_info("ssl_object").getpeercert(True) or b"")
            writer.write(b"hello " + str(len(serial) > 100).encode())
            await writer.drain()
        writer.close()

    listening = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=server)
    async with listening, asyncio.timeout(10):
        port = listening.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname="")
        try:
            return await reader.read()
        finally:
            writer.close()


async def refused(server, client) -> bool:
    """TLS 1.3: a server that refuses the client's certificate says so after the client's handshake."""
    try:
        return await talked(server, client) == b""
    except (ssl.SSLError, ConnectionError):
        return True


async def test_both_ends_know_each_other(authority):
    server = server_context(await identity(authority, HUB), frozenset({NODE}))
    client = client_context(await identity(authority, NODE), frozenset({HUB}))
    assert await talked(server, client) == b"hello True"


async def test_a_server_that_is_somebody_else_is_named_and_left(authority):
    server = server_context(await identity(authority, OTHER), frozenset({NODE}))
    client = client_context(await identity(authority, NODE), frozenset({HUB}))
    with pytest.raises(WrongPeer, match=rf"the peer is {OTHER}, expected was another: {HUB}"):
        await talked(server, client)


async def test_a_client_that_is_not_expected_is_not_let_in(authority):
    client = client_context(await identity(authority, NODE), frozenset({HUB}))
    assert await refused(server_context(await identity(authority, HUB), frozenset({OTHER})), client)
    assert await refused(
        server_context(await identity(authority, HUB), lambda id: id.path.startswith("/cloud/")), client
    )
    assert not await refused(server_context(await identity(authority, HUB), lambda id: "/node/" in id.path), client)


async def test_a_client_without_expired_or_of_another_authority_is_not_let_in(authority, tmp_path):
    server = server_context(await identity(authority, HUB), frozenset({NODE}))
    past = FrozenClock(now_ms=1_000_000_000_000)
    stranger = await identity(Builtin(tmp_path / "other", TD), NODE)
    old = await identity(Builtin(tmp_path / "authority", TD, clock=past), NODE)
    mine = await authority.bundle()
    for shown in (mine, Identity(stranger.svid, mine), Identity(old.svid, mine)):
        assert await refused(server, client_context(shown, frozenset({HUB})))


async def test_a_server_of_another_authority_is_left_before_anything_is_sent(authority, tmp_path):
    server = server_context(await identity(Builtin(tmp_path / "other", TD), HUB), None)
    with pytest.raises(ssl.SSLCertVerificationError):
        await talked(server, client_context(await authority.bundle(), frozenset({HUB})))


async def test_a_nodes_own_authority_is_worth_nothing_where_the_fleets_is_asked(authority, tmp_path):
    local = Builtin(tmp_path / "node", ids.node_domain(TD, "edge-1"))
    forged = await identity(local, ids.local(TD, "edge-1", "edge"))
    both = Bundle(TD, (await authority.bundle()).roots_pem + forged.bundle.roots_pem)
    hub = await identity(authority, HUB)
    server = server_context(Identity(hub.svid, both), lambda id: True)
    assert await refused(server, client_context(Identity(forged.svid, hub.bundle), frozenset({HUB})))


async def test_an_endpoint_for_strangers_asks_for_no_certificate(authority):
    server = server_context(await identity(authority, HUB), None)
    assert await talked(server, client_context(await authority.bundle(), frozenset({HUB}))) == b"hello False"


async def test_a_renewed_context_shows_the_new_and_is_the_same_object(authority, tmp_path):
    server = server_context(await identity(authority, HUB), frozenset({OTHER}))
    client = client_context(await identity(authority, NODE), frozenset({HUB}))
    assert await refused(server, client)
    client.renew(await identity(authority, OTHER))
    assert await talked(server, client) == b"hello True"
    write_identity(tmp_path / "files", await identity(authority, NODE))
    client.renew(tmp_path / "files")
    assert await refused(server, client)
    assert isinstance(client, ssl.SSLContext)


async def test_what_cannot_be_read_leaves_the_old_in_place(authority):
    server = server_context(await identity(authority, HUB), frozenset({NODE}))
    client = client_context(await identity(authority, NODE), frozenset({HUB}))
    node = await identity(authority, NODE)
    with pytest.raises(ssl.SSLError):
        client.renew(Identity(node.svid, Bundle(TD, (b"-----BEGIN CERTIFICATE-----\n",))))
    assert await talked(server, client) == b"hello True"


async def test_two_roots_at_once_are_believed_and_a_dropped_one_is_not(tmp_path):
    old, new = Builtin(tmp_path / "old", TD), Builtin(tmp_path / "new", TD)
    both = Bundle(TD, (await old.bundle()).roots_pem + (await new.bundle()).roots_pem)
    hub = (await identity(new, HUB)).svid
    server = server_context(Identity(hub, both), frozenset({NODE}))
    clients = [client_context(Identity((await identity(a, NODE)).svid, both), frozenset({HUB})) for a in (old, new)]
    assert [await talked(server, client) for client in clients] == [b"hello True"] * 2
    server.renew(Identity(hub, await new.bundle()))
    assert await refused(server, clients[0])
    assert await talked(server, clients[1]) == b"hello True"
    clients[1].renew(Identity((await identity(new, NODE)).svid, await old.bundle()))
    with pytest.raises(ssl.SSLCertVerificationError):
        await talked(server, clients[1])


async def test_a_root_shown_as_an_svid_is_refused(authority):
    root = authority._roots(authority._now())[0]
    both = Identity(Svid.of(root.certificate_pem, root.key_pem), await authority.bundle())
    assert await refused(server_context(await identity(authority, HUB), lambda id: True), client_context(both, {HUB}))
    assert roots.living((root,), authority._now())


async def test_blocking_clients_and_servers_are_judged_too(authority):
    server = server_context(await identity(authority, HUB), frozenset({NODE}))

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Quiet(http.server.HTTPServer):
        def handle_error(self, *_):
            pass

    with Quiet(("127.0.0.1", 0), Page) as listening:
        listening.socket = server.wrap_socket(listening.socket, server_side=True)
        threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        port = listening.server_address[1]

        def status(context) -> int:
            talk = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
            try:
                talk.request("GET", "/")
                return talk.getresponse().status
            finally:
                talk.close()

        good = client_context(await identity(authority, NODE), frozenset({HUB}))
        assert await asyncio.to_thread(status, good) == 204
        picky = client_context(await identity(authority, NODE), frozenset({OTHER}))
        with pytest.raises(WrongPeer, match=r"the peer is spiffe://canopy\.test/hub"):
            await asyncio.to_thread(status, picky)
        other = client_context(await identity(authority, OTHER), frozenset({HUB}))
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            await asyncio.to_thread(status, other)
        assert await asyncio.to_thread(status, good) == 204
        listening.shutdown()
