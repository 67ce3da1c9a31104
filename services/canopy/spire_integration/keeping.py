"""Keeps what this unit owes to others as it should be: the entries that SPIRE holds, the hub told of its new files.

Every replica does so, on a timer and when a node is revoked; what is as it should be is left alone. An authority that
is away stops nothing else: what it gave before holds until it ends.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container
from pathlib import Path

from canopy.bus.outcome import AskFailed
from canopy.bus.system import System
from canopy.identity.authority import Authority, AuthorityAway, AuthorityRefused
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health
from canopy.runtime.logs import once_per
from canopy.spire_integration import entries
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.entries import BadEntries
from canopy.spire_integration.files import Files

log = logging.getLogger("canopy.spire_integration")
SAY_AGAIN_SECONDS = 60.0
AWAY = (AuthorityAway, AuthorityRefused, AskFailed, BadEntries, OSError)
ENTRY, ROTATION = "entry", "rotation"


class Keeping:
    """`run` until cancelled. `files` None: others write them; `entries_file` None: SPIRE's entries are others' too."""

    def __init__(
        self,
        authority: Authority,
        trust_domain: str,
        revoked: Callable[[], Container[str]],
        audit: AuditLog,
        counts: Counts,
        clock: Clock,
        health: Health,
        *,
        seconds: float,
        files: Files | None = None,
        entries_file: Path | None = None,
    ) -> None:
        self._authority, self._trust_domain, self._revoked = authority, trust_domain, revoked
        self._audit, self._counts, self._clock, self._health = audit, counts, clock, health
        self._seconds, self._files, self._entries_file = seconds, files, entries_file
        self._woken = asyncio.Event()
        self._say = once_per(SAY_AGAIN_SECONDS, clock.monotonic)
        self._wrong = ""
        health.tell("authority", lambda: self._wrong or authority.says)

    def wake(self) -> None:
        """A node was revoked or let in again."""
        self._woken.set()

    async def run(self, system: System) -> None:
        while True:
            await self.turn(system)
            await self._clock.wait(self._woken, self._seconds)

    async def turn(self, system: System) -> None:
        """Each part by itself: what is wrong with one does not hold up the other."""
        wrong = [await self._tried("entries", self._entries())]
        if self._files is not None:
            wrong.append(await self._tried("identity files", self._rotations(self._files)))
            wrong.append(await self._tried("the hub's certificate", self._reload(self._files, system)))
        self._wrong = "; ".join(filter(None, wrong))

    async def _tried(self, what: str, work: Awaitable[None]) -> str:
        try:
            await work
            return ""
        except AWAY as e:
            self._counts.failures.add(part="authority" if isinstance(e, AuthorityAway) else "keeping")
            if self._say(what):
                log.warning("%s: %s; trying on", what, e)
            return f"{what}: {e}"

    async def _entries(self) -> None:
        if self._entries_file is None:
            return
        wanted = entries.read(self._entries_file.read_bytes(), self._trust_domain)
        found = await self._authority.entries()
        plan = entries.plan(wanted, found, self._revoked(), self._trust_domain)
        for entry in plan.puts:
            await self._authority.put(entry)
            self._done(str(entry.id), f"registered, for {' '.join(entry.selectors)} of {entry.parent}")
        for id in plan.removes:
            await self._authority.remove(id)
            self._done(str(id), "removed: it is not listed, or revoked")

    def _done(self, who: str, what: str) -> None:
        self._counts.written.add(what="entry")
        self._audit.record(ENTRY, who=who, reason=what)

    async def _rotations(self, files: Files) -> None:
        for svid in files.rotated():
            self._counts.written.add(what="identity")
            until = int(svid.not_after * 1000)
            self._audit.record(ROTATION, who=str(svid.id), serial=f"{svid.serial:x}", not_after=until)

    async def _reload(self, files: Files, system: System) -> None:
        """The hub's servers read a certificate only when told; and ask the callout again about every client then."""
        if not files.hub_is_behind():
            return
        for server, name in (await system.servers()).items():
            if refused := await system.reload(server):
                raise BadEntries(f"{name} does not take its files: {refused}")
            self._audit.record(ROTATION, who=name, reason="it has read its certificate and roots again")
        files.reloaded()
