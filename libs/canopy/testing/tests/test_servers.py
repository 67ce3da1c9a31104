import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from canopy.testing.child import HOST, free_port
from canopy.testing.processes import birth
from canopy.testing.servers import Link, NatsServer, NoServer, nats_binary
from canopy.testing.wait import until
from canopy.testing.world import open_world

pytestmark = pytest.mark.server


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
    writer.close()


async def test_a_hub_and_a_leaf_start_on_free_ports_and_end(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        edge, cloud = (await world.leaf()).server, world.hub.server
        assert cloud.running and edge.running
        await edge.stop()
    assert not cloud.running and not edge.running


async def test_a_wrong_configuration_says_what_the_log_says(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="Parse error"):
        await NatsServer.open("'what is this': [", tmp_path, [free_port()])


async def test_a_server_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "import asyncio, os, pathlib, sys\n"
        "from canopy.testing.servers import NatsServer, free_port\n"
        "port = free_port()\n"
        "started = NatsServer.open(f'listen: 127.0.0.1:{port}', pathlib.Path(sys.argv[1]), [port])\n"
        "print(asyncio.run(started).pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(  # noqa: ASYNC221 - nothing else runs here
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, timeout=30
    )
    child = int(done.stdout)
    await until(lambda: not birth(child))
    assert done.returncode == -signal.SIGKILL


def test_the_binary_is_found() -> None:
    assert os.access(nats_binary(), os.X_OK)


async def test_a_cut_link_refuses_and_a_joined_one_lets_through_on_the_same_port() -> None:
    server = await asyncio.start_server(_echo, HOST, 0)
    link = await Link.open(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection(HOST, link.port)
    writer.write(b"a")
    assert await reader.readexactly(1) == b"a"
    await link.cut()
    assert not await _tail(reader)
    with pytest.raises(ConnectionError):
        await asyncio.open_connection(HOST, link.port)
    await link.join()
    reader, writer = await asyncio.open_connection(HOST, link.port)
    writer.write(b"b")
    assert await reader.readexactly(1) == b"b"
    await link.close()
    server.close()


@pytest.mark.parametrize("turns", range(6))
async def test_who_has_only_just_come_does_not_get_through_a_link_that_is_cut(turns: int) -> None:
    server = await asyncio.start_server(_echo, HOST, 0)
    link = await Link.open(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection(HOST, link.port)
    for _ in range(turns):
        await asyncio.sleep(0)
    await link.cut()
    assert not await asyncio.wait_for(_tail(reader), 10)
    writer.close()
    server.close()


async def test_a_frozen_link_keeps_its_connections_and_passes_nothing() -> None:
    server = await asyncio.start_server(_echo, HOST, 0)
    link = await Link.open(server.sockets[0].getsockname()[1])
    reader, writer = await asyncio.open_connection(HOST, link.port)
    link.freeze()
    writer.write(b"a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(task := asyncio.ensure_future(reader.readexactly(1))), 0.05)
    await link.join()
    assert await task == b"a"
    await link.close()
    server.close()


async def _tail(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""
