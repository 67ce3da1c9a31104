"""Looks at files that others may renew, and says when one is another: cheap, and whoever wrote it need not know us."""

from collections.abc import Callable
from pathlib import Path

from canopy.runtime.clock import Clock

Seen = tuple[int, int, int]


class FileWatch:
    """`changed` is called once for any number of changes between two looks."""

    def __init__(self, paths: tuple[Path, ...], changed: Callable[[], None], clock: Clock, look_seconds: float) -> None:
        self._paths, self._changed, self._clock, self._look_seconds = paths, changed, clock, look_seconds
        self._seen = self._look()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self._look_seconds)
            self.look()

    def look(self) -> None:
        """Look once."""
        now = self._look()
        if now != self._seen:
            self._seen = now
            self._changed()

    def _look(self) -> tuple[Seen | None, ...]:
        return tuple(map(_stamp, self._paths))


def _stamp(path: Path) -> Seen | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
