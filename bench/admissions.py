"""How many connections a second the hub lets in: mTLS, the auth callout, the audit.

    .venv/bin/python bench/admissions.py [--storm 1500] [--joined 1000] [--kind leaf] [--at-once 100] [--json]

Two replicas of spire_integration answer. `--joined` are in before; then `--storm` others come, as a site does that has
its link back. Beside them a real node asks CloudHub's end of the link 50 times a second, through a real leaf: how long
its answers take, before and meanwhile.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from measure import Figures, between, main, options, quantiles, say, usage

from canopy.bus import Bus
from canopy.contracts import catalogue as c
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.contracts.wire import Beat, BeatAnswer
from canopy.identity import ids
from canopy.testing.child import HOST, free_port
from canopy.testing.domain import TD
from canopy.testing.processes import Process, environment
from canopy.testing.world import World, open_world

KNOCKING = Path(__file__).with_name("knocking.py")
LINE_BYTES = 4 << 20
ASKS_PER_SECOND = 50
QUIET_SECONDS = 5.0


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[tuple[World, list[Process]]]:
    """A hub, and replicas that answer its callout."""
    async with open_world(folder, answers=None) as world:
        own = await world.files(ids.cloud(TD, SPIRE_INTEGRATION))
        replicas = [_replica(f"replica-{number}", world, own) for number in (1, 2)]
        for replica in replicas:
            world.stack.push_async_callback(replica.kill)
        await asyncio.gather(*(replica.start() for replica in replicas))
        yield world, replicas


def _replica(name: str, world: World, identity: Path) -> Process:
    port, prefix = free_port(), "CANOPY_SPIRE_INTEGRATION_"
    own = {
        "CANOPY_NATS_URL": world.hub.client_url,
        "CANOPY_IDENTITY_DIR": str(identity),
        "CANOPY_TRUST_DOMAIN": TD,
        "CANOPY_DATA_DIR": str(world.folder / name),
        "CANOPY_HEALTH_LISTEN": f"{HOST}:{port}",
        f"{prefix}KEYS_DIR": str(world.folder / "keys"),
        f"{prefix}BUILTIN_DIR": str(world.folder / "authority"),
        f"{prefix}JOIN_LISTEN": f"{HOST}:0",
    }
    return Process(name, ["canopy.launch", SPIRE_INTEGRATION], world.folder / f"{name}.log", own, port)


class Asking:
    """The node that is there already. `seconds` are the times of its answers; `failed` had none."""

    def __init__(self, edge: Bus, node: str) -> None:
        self._edge, self._node = edge, node
        self.seconds: list[float] = []
        self.failed = 0

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            due = time.monotonic()
            while True:
                tasks.create_task(self._ask())
                due += 1 / ASKS_PER_SECOND
                await asyncio.sleep(due - time.monotonic())

    def taken(self) -> list[float]:
        """The times since this was called last."""
        found, self.seconds = self.seconds, []
        return found

    async def _ask(self) -> None:
        began = time.monotonic()
        try:
            await self._edge.ask(c.BEAT, Beat(session=1), timeout=10, node=self._node)
        except Exception:
            self.failed += 1
        else:
            self.seconds.append(time.monotonic() - began)


async def _asking(world: World) -> Asking:
    async def beat(message: Beat, place: Any) -> BeatAnswer:
        return BeatAnswer()

    cloud = await world.cloud("cloudhub")
    await cloud.serve(c.BEAT, beat, concurrency=100)
    node = "there-already"
    await world.leaf(node)
    return Asking(await world.edge("edgehub", node), node)


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    async with fleet(folder) as (world, replicas):
        asking = await _asking(world)
        task = asyncio.create_task(asking.run())
        try:
            return await _storm(arguments, world, replicas, asking)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _storm(arguments: argparse.Namespace, world: World, replicas: list[Process], asking: Asking) -> Figures:
    pids = {replica.name: replica.pid for replica in replicas} | {"hub": world.hub.server.pid}
    port = world.hub.leaf_port if arguments.kind == "leaf" else world.hub.server.ports[0]
    async with _knocking(arguments, world.folder / "authority", port) as others:
        say(f"admissions: {arguments.joined} come in before")
        await _line(others)
        asking.taken()
        await asyncio.sleep(QUIET_SECONDS)
        quiet, before = asking.taken(), {name: usage(pid) for name, pid in pids.items()}
        say(f"admissions: {arguments.storm} come at once")
        found = await _told(others)
        storm, after = asking.taken(), {name: usage(pid) for name, pid in pids.items()}
        await _next(others)
    return {
        "admissions_per_second": round(arguments.storm / found["seconds"], 1),
        **quantiles("until_in", found["waited"]),
        "tries_per_admission": round(found["tries"] / arguments.storm, 3),
        **quantiles("a_node_there_already_quiet", quiet),
        **quantiles("a_node_there_already_in_the_storm", storm),
        "its_asks_unanswered": asking.failed,
        "processes": between(before, after),
        "knocking_cpu_seconds": round(found["cpu_seconds"], 2),
    }


@asynccontextmanager
async def _knocking(
    arguments: argparse.Namespace, authority: Path, port: int
) -> AsyncIterator[asyncio.subprocess.Process]:
    numbers = {"joined": arguments.joined, "storm": arguments.storm, "at-once": arguments.at_once, "port": port}
    options = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(KNOCKING),
        *("--authority", str(authority), "--kind", arguments.kind),
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_BYTES,
        env=environment({}),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _told(process: asyncio.subprocess.Process) -> dict[str, Any]:
    await _next(process)
    return await _line(process)


async def _next(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None
    process.stdin.write(b"\n")
    await process.stdin.drain()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("knocking.py has ended; what it said stands above")
    found: dict[str, Any] = json.loads(line)
    return found


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--storm", type=int, default=1500, help="connections that come at once")
    parser.add_argument("--joined", type=int, default=1000, help="connections that are there before")
    parser.add_argument(
        "--kind", choices=("leaf", "client"), default="leaf", help="what comes: nodes' leaves, or units"
    )
    parser.add_argument("--at-once", type=int, default=100, help="of the storm, how many try at a time")
    return parser


if __name__ == "__main__":
    main("admissions", _options(), measured)
