"""Faults for the chaos walk: each one is done to the system, and everything is back when it returns."""

import asyncio
import os
import random
import shutil
import signal
from collections.abc import Awaitable, Callable, Iterable

from stories import Stories
from watching import Eyes

from canopy.testing.processes import Process
from canopy.testing.servers import Link
from canopy.testing.system import System

FORGIVEN_SECONDS = 20.0


class Faults:
    """`names` are the devices of the first node that may be harmed by hand."""

    def __init__(self, system: System, stories: Stories, eyes: Eyes, names: list[str], rng: random.Random) -> None:
        self._system, self._stories, self._eyes = system, stories, eyes
        self._names, self._rng = names, rng

    def all(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """By name; a walk does each of them once, in an order of its seed."""
        return {
            "a unit is killed": self.a_unit_killed,
            "half of the edge is killed": self.half_of_the_edge_killed,
            "the hub is away": self.hub_away,
            "the hub has lost its store": self.hub_lost_its_store,
            "the hub lets nobody in": self.nobody_let_in,
            "a leaf is killed": self.leaf_killed,
            "the links flap": self.links_flap,
            "the links freeze": self.links_freeze,
            "kubeserve is killed": self.kubeserve_killed,
            "cloudhub stands still": self.cloudhub_stands_still,
            "statuses are edited and deleted": self.statuses_harmed,
            "a model is deleted": self.model_deleted,
        }

    async def a_unit_killed(self) -> None:
        await self._rng.choice(list(self._edge())).restart(kill=True)
        if self._system.split:  # folded, the controller's leader would die with it (15 s, a story of its own)
            await self._system.unit(self._rng.choice(["cloudhub", "edgecontroller"])).restart(kill=True)

    async def half_of_the_edge_killed(self) -> None:
        edge = list(self._edge())
        some = self._rng.sample(edge, max(1, len(edge) // 2))
        await asyncio.gather(*(process.kill() for process in some))
        await asyncio.gather(*(process.start() for process in some))

    async def hub_away(self) -> None:
        await self._system.hub.server.kill()
        await asyncio.sleep(self._rng.uniform(0.5, 5))
        await self._system.hub.server.start()

    async def hub_lost_its_store(self) -> None:
        server = self._system.hub.server
        await server.kill()
        shutil.rmtree(server.directory / "js")
        self._eyes.forgive(FORGIVEN_SECONDS)
        await server.start()

    async def nobody_let_in(self) -> None:
        """Who would is dead, and every leaf has to come again."""
        judge = self._system.unit("spire_integration")
        await judge.kill()
        await asyncio.gather(*(link.cut() for link in self._links()))
        await asyncio.gather(*(link.join() for link in self._links()))
        await asyncio.sleep(self._rng.uniform(0.2, 1.5))
        await judge.start()

    async def leaf_killed(self) -> None:
        node = self._rng.choice(list(self._system.nodes.values()))
        await node.leaf.server.restart(kill=True)

    async def links_flap(self) -> None:
        for _ in range(3):
            await asyncio.gather(*(link.cut() for link in self._links()))
            await asyncio.sleep(self._rng.uniform(0.1, 0.8))
            await asyncio.gather(*(link.join() for link in self._links()))
            await asyncio.sleep(self._rng.uniform(0.1, 0.8))

    async def links_freeze(self) -> None:
        for link in self._links():
            link.freeze()
        await asyncio.sleep(self._rng.uniform(2, 5))
        await asyncio.gather(*(link.join() for link in self._links()))

    async def kubeserve_killed(self) -> None:
        await self._system.kubeserve.kill()
        await asyncio.sleep(self._rng.uniform(0.2, 2))
        await self._system.kubeserve.start()

    async def cloudhub_stands_still(self) -> None:
        """Short enough for the leader, which shares its process when folded."""
        await stands_still(self._system.unit("cloudhub"), self._rng.uniform(2, 4))

    async def statuses_harmed(self) -> None:
        edited, deleted = self._names[:2]
        self._eyes.forgive(5)
        change = {"status": {"twins": [{"propertyName": "t", "reported": {"value": "999999"}}]}}
        path = f"/apis/devices.kubeedge.io/v1beta1/namespaces/default/devicestatuses/{edited}/status"
        await self._stories.kube.call("PATCH", path, change, "application/merge-patch+json")
        await self._stories.kube.delete("DeviceStatus", deleted)

    async def model_deleted(self) -> None:
        await self._stories.kube.delete("DeviceModel", "thing")
        await asyncio.sleep(self._rng.uniform(0, 1))
        await self._stories.prepare()

    def _edge(self) -> Iterable[Process]:
        return (process for node in self._system.nodes.values() for process in node.edge.values())

    def _links(self) -> list[Link]:
        return [node.link for node in self._system.nodes.values()]


async def stands_still(process: Process, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after so long."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(seconds)
    finally:
        os.kill(process.pid, signal.SIGCONT)


def crashes(said: str) -> list[str]:
    """The lines of a log that tell of a bug of ours."""
    wrong = ("crashed", "Traceback", "Task was destroyed", "handling ")
    return [line[:300] for line in said.splitlines() if any(w in line for w in wrong)]
