"""A hub of three servers, each of them killed in turn while devices report: what was answered to a device is not lost,
nothing older is shown after something newer, and both directions go on within seconds, whichever server a leaf was on.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from players import Players
from stories import Stories
from talk import Talk, device, talk
from watching import Eyes, statuses

from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = pytest.mark.server
SERVERS = 3
BACK_SECONDS = 20.0
"""A stream's new leader is elected within 4 to 9 s (raft's own patience); then what waited is sent."""


@pytest_asyncio.fixture(loop_scope="session")
async def clustered(tmp_path: Path) -> AsyncIterator[Stories]:
    settings = {"CLOUDHUB_BEAT_SECONDS": "1"}
    async with (
        System(tmp_path, hub_servers=SERVERS, settings=settings) as system,
        system.kube() as kube,
        system.api() as api,
    ):
        stories = Stories(system, kube, api)
        await stories.prepare()
        yield stories


async def test_each_server_of_the_hub_is_killed_in_turn_and_no_answered_report_is_lost(clustered: Stories) -> None:
    system, eyes = clustered.system, Eyes(clustered.system)
    names = [f"r-{i}" for i in range(4)]
    for name in (*names, "desired"):
        await clustered.create(name)
    players = Players(system.node().mqtt_port, names, random.Random(7))
    async with talk(system.node().mqtt_port, device("desired")) as one, players.playing(), eyes.open():
        await _shown(clustered, players, 30)
        await clustered.known_at_the_edge(one)
        await one.update({"level": {"actual": {"value": "0"}, "metadata": {"type": "int"}}})
        for level, server in enumerate(system.hub.servers, start=1):
            await server.kill()
            await asyncio.gather(_shown(clustered, players, BACK_SECONDS), _desired(clustered, one, str(level)))
            await server.start()
            await _shown(clustered, players, BACK_SECONDS)
        players.pause()
        await until(lambda: _equal(clustered, players), BACK_SECONDS)
    assert not eyes.older, "an older value was shown after a newer one"


async def _shown(stories: Stories, players: Players, seconds: float) -> float:
    """Wait until Kubernetes shows of every device something that was answered after this began; the seconds."""
    was, began = dict(players.answered), time.monotonic()

    async def newer() -> bool:
        shown = await _statuses(stories)
        return all(shown.get(name, 0) > was[name] for name in players.names)

    await until(newer, seconds)
    return time.monotonic() - began


async def _desired(stories: Stories, one: Talk, level: str) -> None:
    """A desired value gets to the device."""
    await stories.kube.patch(
        "Device", "desired", {"spec": {"properties": [{"name": "level", "desired": {"value": level}}]}}
    )
    async with asyncio.timeout(BACK_SECONDS):
        while (await one.next("twin/update/delta", BACK_SECONDS))["delta"] != {"level": level}:
            pass


async def _equal(stories: Stories, players: Players) -> bool:
    """Kubernetes shows what the node holds, which is no less than what was answered."""
    shown, held = await _statuses(stories), await players.held()
    return held == shown and all(held[name] >= players.answered[name] for name in players.names)


async def _statuses(stories: Stories) -> dict[str, int]:
    return {name: value for (name, _), value in (await statuses(stories.kube)).items()}
