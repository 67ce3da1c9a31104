"""Throws revoked nodes out of the hub: every connection that one has, at every server, several times over.

`nodes` marks a node as soon as it is known to be revoked, in every replica. Looked at again for a while, since
another replica may have let it in at that very moment, and a server of the hub may be slow to answer.
"""

import asyncio
import logging
from collections.abc import Callable, Container

from canopy.bus.config import node_account
from canopy.bus.outcome import AskFailed
from canopy.bus.system import System
from canopy.identity import ids
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.logs import once_per
from canopy.spire_integration.counts import Counts

log = logging.getLogger("canopy.spire_integration")
LOOKS_SECONDS = (0.0, 1.0, 2.0, 5.0, 15.0)
"""Between two looks at a node that has been revoked."""
AGAIN_SECONDS = 1.0
LOOKS_AT_ONCE = 8
SAY_AGAIN_SECONDS = 30.0
CUT = "cut"


class Cutting:
    """`run` until cancelled; `revoked` gives who is revoked now: who has been restored meanwhile is let be."""

    def __init__(
        self,
        system: System,
        trust_domain: str,
        revoked: Callable[[], Container[str]],
        audit: AuditLog,
        counts: Counts,
        clock: Clock,
    ) -> None:
        self._system, self._trust_domain, self._revoked = system, trust_domain, revoked
        self._audit, self._counts, self._clock = audit, counts, clock
        self._marked: asyncio.Queue[tuple[str, bool]] = asyncio.Queue()
        self._say = once_per(SAY_AGAIN_SECONDS, clock.monotonic)

    def mark(self, node: str, news: bool) -> None:
        """Its connections are to be closed; one look is enough for what is no news."""
        self._marked.put_nowait((node, news))

    async def run(self) -> None:
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            while True:
                node, news = await self._marked.get()
                tasks.create_task(self._cut(node, LOOKS_SECONDS if news else LOOKS_SECONDS[:1], slots))

    async def _cut(self, node: str, looks: tuple[float, ...], slots: asyncio.Semaphore) -> None:
        for seconds in looks:
            await self._clock.sleep(seconds)
            while node in self._revoked() and not await self._looked(node, slots):
                await self._clock.sleep(AGAIN_SECONDS)

    async def _looked(self, node: str, slots: asyncio.Semaphore) -> bool:
        """False if the hub did not answer."""
        async with slots:
            try:
                await self.throw_out(node)
            except AskFailed as e:
                self._counts.failures.add(part="hub")
                if self._say("hub"):
                    log.warning("revoked nodes cannot be thrown out of the hub: %s; trying on", e)
                return False
        return True

    async def throw_out(self, node: str) -> int:
        """How many connections it had. Raises AskFailed."""
        name, closed = str(ids.node(self._trust_domain, node)), 0
        for one in await self._system.connections(name, node_account(node)):
            if await self._system.kick(one.server, one.cid):
                closed += 1
                self._counts.kicked.add()
                self._audit.record(CUT, who=name, reason=f"revoked: its {one.kind} was closed", where=one.host)
        return closed
