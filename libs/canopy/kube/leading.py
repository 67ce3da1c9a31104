"""Runs a controller's duty while this replica leads, and only then. Called by the controllers' `unit.py`."""

import asyncio
from collections.abc import Awaitable, Callable

from canopy.kube.api import Kube
from canopy.kube.leader import Leader, LeaderSettings


class Leading:
    """`duty` is begun when the replica becomes leader, and cancelled (and waited for) before another can be.

    What the duty raises ends `run`. `leads` says whether a write may still go.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        name: str,
        identity: str,
        duty: Callable[[], Awaitable[None]],
        settings: LeaderSettings | None = None,
    ) -> None:
        self._duty = duty
        self._task: asyncio.Task[None] | None = None
        self._group = asyncio.TaskGroup()
        self._leader = Leader(
            kube, namespace, name, identity, settings=settings, on_started=self._begin, on_stopped=self._end
        )

    def leads(self) -> bool:
        return self._leader.is_leader

    async def run(self) -> None:
        """Take part in the election until cancelled; once."""
        async with self._group:
            self._group.create_task(self._leader.run())

    def _begin(self) -> None:
        self._task = self._group.create_task(self._run())

    async def _run(self) -> None:
        await self._duty()

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
