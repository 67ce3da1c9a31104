"""The light as a process: ready line, port, end."""

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator

import pytest

from canopy.testing import light
from canopy.testing.light import LightState

pytestmark = pytest.mark.server
DEADLINE_SECONDS = 20.0


@contextlib.asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[tuple[Process, int]]:
    command = (sys.executable, "-m", "canopy.testing.light", *arguments)
    child = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert child.stdout is not None
            ready = json.loads(await child.stdout.readline())
        assert ready["ready"] is True
        yield child, ready["port"]
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def ended(child: Process) -> int:
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await child.wait()


async def test_it_says_its_port_is_flipped_by_hand_and_ends_on_sigterm() -> None:
    async with process("--port", "0") as (child, port):
        assert await light.read("127.0.0.1", port) == LightState(False, 50, 0.0)
        await light.flip("127.0.0.1", port, True)
        assert await light.read("127.0.0.1", port) == LightState(True, 50, 4.0)
        child.send_signal(signal.SIGTERM)
        assert await ended(child) == 0


async def test_it_ends_when_its_parent_goes() -> None:
    async with process("--until-eof") as (child, port):
        await light.read("127.0.0.1", port)
        assert child.stdin is not None
        child.stdin.close()
        assert await ended(child) == 0


async def test_nobody_at_the_port_is_a_connection_error() -> None:
    async with process() as (child, port):
        child.kill()
        await ended(child)
        with pytest.raises(ConnectionError):
            await light.flip("127.0.0.1", port, True)
