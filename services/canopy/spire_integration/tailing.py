"""Follows the hub's log, where it can be read (setting hub_log), and audits what TLS itself refused.

From the end of the file as it is at the start; a file that was rotated, emptied or is not there yet is followed on.
"""

from pathlib import Path

from canopy.bus import serverlog
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.tail import Tail
from canopy.spire_integration.callout import ADMISSION
from canopy.spire_integration.counts import Counts

LOOK_SECONDS = 0.5


class Tailing:
    """`run` until cancelled."""

    def __init__(self, path: Path, audit: AuditLog, counts: Counts, clock: Clock) -> None:
        self._path, self._audit, self._counts, self._clock = path, audit, counts, clock

    async def run(self) -> None:
        tail = Tail(self._path)
        try:
            while True:
                for line in tail.lines():
                    self._heard(line)
                await self._clock.sleep(LOOK_SECONDS)
        finally:
            tail.close()

    def _heard(self, line: str) -> None:
        refused = serverlog.refusal(line)
        if refused is None:
            return
        self._counts.refusals.add(why="tls")
        who = f"sha256:{refused.certificate}" if refused.certificate else ""
        self._audit.record(ADMISSION, outcome="refused", who=who, reason=f"TLS: {refused.reason}", where=refused.where)
