"""The leader of devicecontroller is killed, and paused: the other replica takes over, and nobody writes what is old.

Two devices report twenty times a second all the while; each change of their DeviceStatus is seen by a watch.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from players import Players
from stories import Stories
from talk import device, talk
from watching import statuses

from canopy.kube.client import connect
from canopy.kube.informer import Informer
from canopy.kube.resource import DEVICE_STATUSES
from canopy.testing.child import HOST
from canopy.testing.kubernetes import CLUSTER, api_server, subjects
from canopy.testing.processes import Process
from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.timeout(240)]
TAKEN_OVER_SECONDS = 20.0
PAUSE_SECONDS = 30.0
RIGHT_SECONDS = 5.0
GAP_SECONDS = 0.05
ANSWER_SECONDS = 5.0
"""A machine may be busy: who is late says no less that it leads."""
REPLICAS = (1, 2)
SUBJECTS = [pytest.param("kubeserve", marks=pytest.mark.xdist_group("leader")), *subjects()[1:]]


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=SUBJECTS)
async def stories(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stories]:
    """Two replicas of each cloud unit, each in a process of its own, on kubeserve or on a real kube-apiserver."""
    folder, kubeconfig = tmp_path_factory.mktemp("leader"), None
    async with contextlib.AsyncExitStack() as stack:
        if request.param == CLUSTER:
            server = await stack.enter_async_context(api_server(CLUSTER, folder / "kube"))
            kubeconfig = server.kubeconfig
        system = await stack.enter_async_context(System(folder, split=True, replicas=2, kubeconfig=kubeconfig))
        kube, api = await stack.enter_async_context(system.kube()), await stack.enter_async_context(system.api())
        told = Stories(system, kube, api)
        await told.prepare()
        yield told


class Seen:
    """Every change of a DeviceStatus, by a watch: `older` are those that showed less than was shown before."""

    def __init__(self) -> None:
        self.changes, self.older = 0, list[str]()
        self._last: dict[tuple[str, str], int] = {}

    @contextlib.asynccontextmanager
    async def watching(self, kubeconfig: Path) -> AsyncIterator["Seen"]:
        kube = await connect(kubeconfig)
        informer = Informer(kube, DEVICE_STATUSES, json.loads, on_change=self._changed)
        task = asyncio.create_task(informer.run())
        try:
            await informer.wait_synced()
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await kube.close()

    def _changed(self, key: tuple[str, str], _: Any, new: Any) -> None:
        twins = ((new or {}).get("status") or {}).get("twins") or []
        value = next((int(t["reported"]["value"]) for t in twins if t["propertyName"] == "t" and t.get("reported")), 0)
        if new is None or not value:
            return
        place = (key[1], new["metadata"]["uid"])
        self.changes += 1
        if value < self._last.get(place, 0):
            self.older.append(f"{key[1]}: {value} after {self._last[place]}")
        self._last[place] = value


async def leads(process: Process) -> bool | None:
    """Whether this replica says that it leads; None while it does not answer."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS) as client:
            text = (await client.get(f"http://{HOST}:{process.health_port}/metrics")).text
    except httpx.HTTPError:
        return None
    return "canopy_devicecontroller_leads 1" in text


async def leader(system: System) -> tuple[Process, Process]:
    """Who leads, and the other one."""
    both = [system.unit("devicecontroller", replica=n) for n in REPLICAS]

    async def one() -> tuple[Process, Process] | None:
        said = [await leads(process) for process in both]
        return (both[said.index(True)], both[said.index(False)]) if set(said) == {True, False} else None

    found: tuple[Process, Process] = await until(one, 30)
    return found


@contextlib.asynccontextmanager
async def reporting(stories: Stories) -> AsyncIterator[tuple[Players, Seen]]:
    """Two devices that report; their statuses are watched."""
    names = [f"l{uuid.uuid4().hex[:6]}-{i}" for i in range(2)]
    for name in names:
        await stories.create(name)
    players = Players(stories.system.node().mqtt_port, names, random.Random(1), GAP_SECONDS)
    async with Seen().watching(stories.system.kubeconfig) as seen, players.playing():
        await goes_on(stories, players, 20)
        yield players, seen
    for name in names:
        await stories.kube.delete("Device", name)


async def goes_on(stories: Stories, players: Players, seconds: float) -> float:
    """Wait until Kubernetes shows what is reported from now on; the seconds it took."""
    began, now = time.monotonic(), dict(players.sent)

    async def later() -> bool:
        shown = {name: value for (name, _), value in (await statuses(stories.kube)).items()}
        return all(shown.get(name, 0) > now[name] for name in players.names)

    await until(later, seconds)
    return time.monotonic() - began


async def all_right(stories: Stories, players: Players, seen: Seen) -> None:
    """The last values are there within seconds, and no older one was ever shown after a newer one."""
    players.pause()
    held = await players.held()
    assert all(held[name] >= players.answered[name] for name in players.names)

    async def equal() -> bool:
        shown = {name: value for (name, _), value in (await statuses(stories.kube)).items()}
        return all(shown.get(name) == held[name] for name in players.names)

    await until(equal, RIGHT_SECONDS)
    assert seen.changes > 5 and not seen.older, seen.older


async def test_a_killed_leader_is_followed_within_20_s_and_nothing_is_lost(stories: Stories) -> None:
    """Also a Device that is made while nobody leads reaches its node."""
    first, second = await leader(stories.system)
    async with reporting(stories) as (players, seen):
        await first.kill()
        made = time.monotonic()
        name = f"m{uuid.uuid4().hex[:6]}"
        await stories.create(name)
        assert await goes_on(stories, players, TAKEN_OVER_SECONDS) > 5, "it was no leader that was killed"
        assert await leads(second)
        async with talk(stories.system.node().mqtt_port, device(name)) as client:
            await stories.known_at_the_edge(client, TAKEN_OVER_SECONDS + 2 - (time.monotonic() - made))
        await first.start()
        await all_right(stories, players, seen)
        assert await leads(second) and not await leads(first)
    await stories.kube.delete("Device", name)


async def test_a_paused_leader_is_followed_within_20_s_and_writes_nothing_old_when_it_goes_on(stories: Stories) -> None:
    first, second = await leader(stories.system)
    async with reporting(stories) as (players, seen):
        os.kill(first.pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            await goes_on(stories, players, TAKEN_OVER_SECONDS)
            assert await leads(second)
            await asyncio.sleep(PAUSE_SECONDS - (time.monotonic() - stopped))
        finally:
            os.kill(first.pid, signal.SIGCONT)

        async def follows() -> bool:
            return await leads(first) is False

        await until(follows, 5)
        for _ in range(5):
            await goes_on(stories, players, RIGHT_SECONDS)
        assert await leads(second) and not await leads(first)
        await all_right(stories, players, seen)
