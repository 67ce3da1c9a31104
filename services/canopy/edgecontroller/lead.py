"""What only the leader does: look at nodes that were heard, that changed, and whose silence has lasted too long."""

import asyncio

from canopy.edgecontroller.counts import Counts
from canopy.edgecontroller.handlers import NodeWriter
from canopy.edgecontroller.replica import Replica
from canopy.edgecontroller.settings import Settings
from canopy.kube.errors import KubeError
from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.patience import patiently
from canopy.runtime.worker import Worked, Worker
from canopy.runtime.workqueue import Budget, Queue

TICK_SECONDS = 0.25


class Lead:
    """Begun anew with each leadership."""

    def __init__(
        self,
        replica: Replica,
        writer: NodeWriter,
        settings: Settings,
        clock: Clock,
        counts: Counts,
        letters: DeadLetters | None = None,
    ) -> None:
        self._replica, self._writer, self._clock, self._counts = replica, writer, clock, counts
        at_once, waits = settings.looks_at_once, counts.budget_waits.add
        nodes, leases = Budget(settings.writes_per_second), Budget(settings.renewals_per_second)
        of_nodes: Queue[str] = Queue(0.0, nodes)
        of_leases: Queue[str] = Queue(0.0, leases)
        self._nodes: Worker[str] = Worker(of_nodes, writer.look, clock, at_once, self._done, waits, letters)
        self._leases: Worker[str] = Worker(of_leases, writer.renew, clock, at_once, on_starved=waits, letters=letters)

    @property
    def backlog(self) -> int:
        """How many nodes wait to be looked at."""
        return len(self._nodes.queue)

    async def run(self) -> None:
        """Until cancelled. Last seen is what the Leases say, and what this replica heard itself."""
        await patiently("the nodes' Leases", self._writer.read_leases, KubeError)
        self._replica.mark = self._mark
        try:
            for name in {*self._replica.nodes, *self._replica.heard}:
                self._mark(name)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._nodes.run())
                tasks.create_task(self._leases.run())
                tasks.create_task(self._tick())
        finally:
            self._replica.mark = None

    def _mark(self, name: str) -> None:
        self._nodes.mark(name)
        self._leases.mark(name)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            for name in self._writer.due():
                self._nodes.mark(name)

    def _done(self, worked: Worked, seconds: float) -> None:
        if worked.wrote:
            self._counts.lag.set(seconds)
