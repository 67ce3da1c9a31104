"""A way through TLS, both ends in this process."""

import asyncio
import contextlib
import stat
from contextlib import asynccontextmanager

import pytest

from canopy.identity import ids, tunnel
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.identity.tls import client_context, server_context
from canopy.identity.tunnel import Tunnel
from canopy.testing.wait import until

TD = "canopy.test"
HUB, NODE = ids.hub(TD), ids.node(TD, "edge-1")


async def identity(tmp_path, id) -> Identity:
    authority, key = Builtin(tmp_path / "authority", TD), new_key()
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=60)
    return Identity(Svid.of(minted.chain_pem, key), await authority.bundle())


@asynccontextmanager
async def world(tmp_path, server_id=HUB):
    """A tunnel to a server that says everything back; the tunnel expects the hub."""

    async def echo(reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    context = server_context(await identity(tmp_path, server_id), {NODE})
    listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    client = client_context(await identity(tmp_path, NODE), {HUB})
    made = Tunnel("127.0.0.1", listening.sockets[0].getsockname()[1], client)
    await made.open()
    try:
        yield made, listening
    finally:
        await made.close()
        listening.close()
        assert not made.socket.parent.exists()


async def said_back(made: Tunnel, text: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(made.socket)
    try:
        writer.write(text)
        return await asyncio.wait_for(reader.read(len(text)), 10)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_what_goes_in_comes_out_at_who_is_expected(tmp_path):
    async with world(tmp_path) as (made, _):
        assert await said_back(made, b"hello") == b"hello"
        assert made.fault == ""
        assert stat.S_IMODE(made.socket.parent.stat().st_mode) == 0o700


async def test_nothing_reaches_somebody_else_and_the_fault_says_who(tmp_path):
    async with world(tmp_path, NODE) as (made, _):
        assert await said_back(made, b"secret") == b""
        assert made.fault == f"the peer is {NODE}, expected was another: {HUB}"


async def test_nobody_there_is_a_fault_and_not_a_wait(tmp_path):
    async with world(tmp_path) as (made, listening):
        listening.close()
        await listening.wait_closed()
        assert await said_back(made, b"hello") == b""
        assert "Connect call failed" in made.fault


async def test_there_are_never_more_connections_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(tunnel, "MOST_CONNECTIONS", 2)
    async with world(tmp_path) as (made, _), contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            reader, writer = await asyncio.open_unix_connection(made.socket)
            stack.callback(writer.close)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        assert await said_back(made, b"hello") == b""
        await stack.aclose()

        async def again() -> bool:
            return await said_back(made, b"hello") == b"hello"

        await until(again)


@pytest.mark.parametrize("how", ["closed", "half closed"])
async def test_an_end_here_is_an_end_there(tmp_path, how):
    async with world(tmp_path) as (made, _):
        reader, writer = await asyncio.open_unix_connection(made.socket)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close() if how == "closed" else writer.write_eof()
        await until(lambda: not made._open)
        writer.close()
