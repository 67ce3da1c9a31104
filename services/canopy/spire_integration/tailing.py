"""Follows the hub's log, where it can be read (setting hub_log), and audits what TLS itself refused.

From the end of the file as it is at the start; a file that was rotated, emptied or is not there yet is followed on.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.spire_integration import hublog
from canopy.spire_integration.callout import ADMISSION
from canopy.spire_integration.counts import Counts

log = logging.getLogger("canopy.spire_integration")
LOOK_SECONDS = 0.5
CHUNK_BYTES = 256 * 1024


class Tail:
    """New whole lines of a file, by its name. A line longer than CHUNK_BYTES is cut."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._rest = path, None, b""
        self._open(at_end=True)

    _file: BinaryIO | None

    def lines(self) -> Iterator[str]:
        """What has been written since the last time, at most CHUNK_BYTES of it."""
        if self._file is None or self._gone():
            self._open(at_end=False)
        if self._file is None:
            return
        *whole, self._rest = (self._rest + self._file.read(CHUNK_BYTES)).split(b"\n")
        self._rest = self._rest[-CHUNK_BYTES:]
        for line in whole:
            yield line.decode("utf-8", "replace")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, at_end: bool) -> None:
        self.close()
        self._rest = b""
        try:
            self._file = self._path.open("rb")
        except OSError:
            return
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def _gone(self) -> bool:
        """Another file stands there now, or this one was emptied; what is left of the old one is read first."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        if mine.st_size > self._file.tell():
            return False
        try:
            there = self._path.stat()
        except OSError:
            return False
        return (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev) or mine.st_size < self._file.tell()


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
        refused = hublog.refusal(line)
        if refused is None:
            return
        self._counts.refusals.add(why="tls")
        who = f"sha256:{refused.certificate}" if refused.certificate else ""
        self._audit.record(ADMISSION, outcome="refused", who=who, reason=f"TLS: {refused.reason}", where=refused.where)
