"""What is wrong with one device, as its reports say it: the whole device, properties unread, wishes unwritten. Pure.

`core.Device` tells it what happens, and asks what is to be said. Times are the core's; `wall` turns them into ms.
"""

from collections.abc import Callable, Container

from canopy.contracts.wire import (
    MAX_REASON_CHARACTERS,
    READ_FAILED,
    WRITE_FAILED,
    WRITE_REFUSED,
    Problem,
    bounded_problems,
)

DEVICE = ""
"""What stands for the device itself where a property would."""


class Ailments:
    """All that is wrong now, and what of it was said. Nothing is kept of what is well but when it last was."""

    def __init__(self, wall: Callable[[float], int]) -> None:
        self._wall = wall
        self._reads: dict[str, Problem] = {}
        self._writes: dict[str, Problem] = {}
        self._good: dict[str, float] = {}
        self._stored: list[Problem] | None = None

    # --- what happens -----------------------------------------------------------------------------------------------
    def of_device(self, code: str, reason: str, now: float) -> bool:
        """The device does not answer, or cannot. True if that is news."""
        return self._note(self._reads, DEVICE, code, reason, now)

    def device_answered(self, now: float) -> None:
        self._good[DEVICE] = now
        self._reads.pop(DEVICE, None)

    def unread(self, name: str, reason: str, now: float) -> bool:
        """A property cannot be read. True if that, or its reason, is news."""
        return self._note(self._reads, name, READ_FAILED, reason, now)

    def read(self, name: str, now: float) -> bool:
        """A property was read. True if it could not before."""
        self._good[name] = now
        return self._reads.pop(name, None) is not None

    def unwritten(self, name: str, reason: str, now: float, for_good: bool) -> None:
        """A desired value could not be written; `for_good`: it is not tried again."""
        self._note(self._writes, name, WRITE_REFUSED if for_good else WRITE_FAILED, reason, now)

    def keep_writes(self, wanted: Container[str]) -> None:
        """What is no longer wanted, or is so by now, is no longer wrong."""
        for name in [name for name in self._writes if name not in wanted]:
            del self._writes[name]

    def _note(self, where: dict[str, Problem], name: str, code: str, reason: str, now: float) -> bool:
        known, reason = where.get(name), reason[:MAX_REASON_CHARACTERS]
        if known is not None and (known.code, known.reason) == (code, reason):
            return False
        same = known is not None and known.code == code
        since = known.since if known is not None and same else self._wall(now)
        good = self._good.get(name)
        last = 0 if good is None else self._wall(good)
        where[name] = Problem(code=code, reason=reason, property=name, since=since, last_success=last)
        return True

    # --- what is said -----------------------------------------------------------------------------------------------
    @property
    def now(self) -> list[Problem]:
        """All that is wrong, as far as a state may hold it."""
        if not self._reads and not self._writes:
            return []
        return bounded_problems([*self._reads.values(), *self._writes.values()])

    @property
    def changed(self) -> bool:
        """Whether others do not know it so; that nothing was ever wrong is no news."""
        return self.now != (self._stored or [])

    def to_say(self) -> list[Problem] | None:
        """For a report; None where the twin holds just that."""
        now = self.now
        return None if now == self._stored else now

    def stored(self, said: list[Problem] | None) -> None:
        """A report with this was taken."""
        if said is not None:
            self._stored = said

    def say_all(self) -> None:
        """Say it again with the next report."""
        self._stored = None
