"""Runs a node that has joined, in the foreground: its NATS server and its units, each started again when it ends.

For trying, and for machines without a service manager. `canopy join --start` calls it.
"""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from canopy.cli.failure import Failure
from canopy.cli.joined import NODE_UNITS, Place
from canopy.runtime.backoff import Backoff
from canopy.testing.servers import LEAF_GO, NoServer, nats_binary

LOOK_SECONDS = 0.2
FIRST_SECONDS, MOST_SECONDS = 0.5, 10.0
END_SECONDS = 15.0

Say = Callable[[str, str], None]


async def run_node(place: Place, say: Say) -> None:
    """Until SIGINT or SIGTERM. Raises Failure where nats-server is not installed."""
    try:
        server = [str(nats_binary()), "-c", str(place.config)]
    except NoServer as e:
        raise Failure(str(e)) from None
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    units = [sys.executable, "-m", "canopy.cli.main", "run", *NODE_UNITS]
    own = {"CANOPY_ENV_FILE": str(place.settings)}
    works = [
        asyncio.create_task(_kept("units", units, own, say)),
        asyncio.create_task(_leaf(place.config, _look(place.config), server, say)),
    ]
    await ended.wait()
    say("ending", "the node's processes are told to end")
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)


async def _leaf(config: Path, before: object, server: Sequence[str], say: Say) -> None:
    """Once edgeidentity has written its configuration (anew: settings may have changed since)."""
    while _look(config) in (before, None):  # noqa: ASYNC110 - another process writes it
        await asyncio.sleep(LOOK_SECONDS)
    await _kept("leaf", server, LEAF_GO, say)


def _look(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


async def _kept(name: str, command: Sequence[str], own: Mapping[str, str], say: Say) -> None:
    """Run it, and again when it ends, until cancelled."""
    backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, random.Random())  # noqa: S311 - spreads restarts
    while True:
        process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **own}, stdin=DEVNULL)
        say(name, f"runs (pid {process.pid})")
        try:
            code = await process.wait()
        finally:
            await _end(process)
        say(name, f"ended with {code}; it starts again")
        await asyncio.sleep(backoff.next_seconds())


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(END_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
