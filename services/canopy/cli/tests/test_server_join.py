"""One command on a fresh machine: joined, its leaf at the hub, its units talking; and again after a restart. What
`canopy doctor` says of it while it runs, when its hub is gone, and after its end.
"""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from canopy.bus.bus import Bus
from canopy.bus.streams import LastValues
from canopy.contracts.catalogue import HELLO, IDENTITY_TOKEN
from canopy.contracts.identity_wire import TokenAsk
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.contracts.wire import HelloAnswer
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.runtime.metrics import Metrics
from canopy.spire_integration import joining_unit
from canopy.spire_integration.settings import Settings
from canopy.testing.child import free_port
from canopy.testing.domain import TD
from canopy.testing.wait import until
from canopy.testing.world import World, open_world

pytestmark = pytest.mark.server


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[tuple[World, Bus]]:
    """A hub, and where nodes join."""
    async with open_world(tmp_path / "fleet") as world:
        bus = await world.opened(await world.at_hub(SPIRE_INTEGRATION, world.keys.cloud), SPIRE_INTEGRATION)
        await LastValues(bus, "NODES").ensure()
        settings = Settings(join_listen="127.0.0.1:0", join_hub_url=f"tls://localhost:{world.hub.leaf_port}")
        parts = joining_unit.Parts(
            bus, world.authority, AuditLog(SPIRE_INTEGRATION).record, SystemClock(), Metrics(), Health("x"),
            settings, TD, world.folder / "keys",
        )  # fmt: skip
        await world.stack.enter_async_context(joining_unit.serve(parts))
        yield world, await world.cloud("cloudhub")


async def started(folder: Path, *arguments: str) -> Process:
    leaf, mqtt = free_port(), free_port()
    own = {
        "CANOPY_NATS_URL": f"tls://127.0.0.1:{leaf}",
        "CANOPY_EDGEIDENTITY_LEAF_LISTEN": f"127.0.0.1:{leaf}",
        "CANOPY_EDGEIDENTITY_MQTT_LISTEN": f"127.0.0.1:{mqtt}",
        "HOME": str(folder),
    }
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CANOPY_")}
    command = (sys.executable, "-m", "canopy.cli.main", "join", "--dir", str(folder / "node"), "--start", "-o", "json")
    return await asyncio.create_subprocess_exec(
        *command, *arguments, env=inherited | own, cwd=folder, stdout=PIPE, stderr=STDOUT
    )


async def examined(folder: Path) -> dict[str, str]:
    """What `canopy doctor` finds: verdict by check."""
    command = (sys.executable, "-m", "canopy.cli.main", "doctor", "--dir", str(folder / "node"), "-o", "json")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CANOPY_")}
    process = await asyncio.create_subprocess_exec(*command, env=inherited, cwd=folder, stdout=PIPE)
    said = json.loads((await asyncio.wait_for(process.communicate(), 30))[0])
    assert process.returncode == (0 if said["well"] else 1)
    return {one["check"]: one["verdict"] for one in said["findings"]}


async def test_one_command_joins_and_runs_a_node_and_starts_it_again(fleet: tuple[World, Bus], tmp_path: Path) -> None:
    world, cloudhub = fleet
    heard: list[str] = []

    async def hello(ask: Any, place: Any) -> HelloAnswer:
        heard.append(place["node"])
        return HelloAnswer(verdict="busy", retry_after_seconds=0.2)

    await cloudhub.serve(HELLO, hello)
    token = (await cloudhub.ask(IDENTITY_TOKEN, TokenAsk(node="edge-7"), timeout=5)).token
    for arguments in (("--token", token), ()):
        heard.clear()
        process = await started(tmp_path, *arguments)
        try:
            assert process.stdout is not None
            steps = []
            while "ready" not in steps:
                steps.append(json.loads(await process.stdout.readline())["step"])
            assert steps == (["endpoint", "key", "bundle", "joined", "ready"] if arguments else ["ready"])
            said = asyncio.create_task(process.stdout.read())
            await until(lambda: heard, 60)
            assert set(heard) == {"edge-7"}
            if not arguments:
                await is_examined(world, tmp_path)
        finally:
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) == 0
        assert b"ended with" not in await said
    found = await examined(tmp_path)
    assert wrong(found) == {"hub", "leaf", "gateway", "admin socket"}
    assert {found[check] for check in ("joined", "link", "authority", "units", "key files", "join endpoint")} == {"ok"}


async def is_examined(world: World, folder: Path) -> None:
    """While it runs: first all is well, then the hub goes."""
    found = await until(lambda: all_well(folder), 60)
    assert {"clock", "join endpoint", "hub", "linked", "gateway"} <= found.keys()
    await world.hub.server.kill()
    found = await examined(folder)
    assert wrong(found) == {"hub", "linked"}


async def all_well(folder: Path) -> dict[str, str]:
    """What was found, once nothing is wrong or unknown."""
    found = await examined(folder)
    return found if set(found.values()) == {"ok"} else {}


def wrong(found: dict[str, str]) -> set[str]:
    return {check for check, verdict in found.items() if verdict == "wrong"}
