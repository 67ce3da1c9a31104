"""How a unit of a node reads a set that MetaManager holds: at start, when it says so, and on a timer (RULES 9).

By the same code as MetaManager follows the cloud. Only a proven set is handed on, and never one that is older than
the last one taken, which may have been before a restart (`as_of`).
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection

from canopy.bus.bus import Bus
from canopy.bus.dispatch import Place
from canopy.bus.outcome import AskFailed
from canopy.contracts import catalogue as c
from canopy.contracts.wire import AsOf, Key, Put, SetChanged
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.sync.down import Change, Follower

log = logging.getLogger("canopy.bus")

FIRST_SECONDS, MOST_SECONDS = 0.2, 10.0
MOST_PAGES = 10_000
HAND_ON_TRIES = 3

Take = Callable[[Collection[Put], AsOf], bool]
"""Takes a proven set whole; False if it cannot now (it is handed on again at the next turn)."""


class SetReader:
    """`run` follows the set of `channel`, until cancelled; `changed` is to hear META_CHANGED."""

    def __init__(
        self,
        bus: Bus,
        channel: str,
        take: Take,
        *,
        seconds: float,
        clock: Clock,
        rng: random.Random,
        as_of: Callable[[], AsOf | None] = lambda: None,
    ) -> None:
        self._bus, self._channel, self._take, self._seconds = bus, channel, take, seconds
        self._follower = Follower((), as_of())
        self._as_of = as_of
        self._puts: dict[Key, Put] = {}
        self._woken = asyncio.Event()
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, rng)
        self._clock, self._rng, self._quiet = clock, rng, False
        self._handed: AsOf | None = None

    async def changed(self, message: SetChanged, place: Place[SetChanged]) -> None:
        """MetaManager says that the set is another one; nothing depends on its being heard."""
        self._woken.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            read = await self._pass()
            pause = self._seconds * self._rng.uniform(0.8, 1.2) if read else self._backoff.next_seconds()
            await self._clock.wait(self._woken, pause)

    async def _pass(self) -> bool:
        """Read the set whole; False if MetaManager does not answer, or has nothing proven."""
        self._follower.begin()
        try:
            for _ in range(MOST_PAGES):
                if not self._follower.passing:
                    break
                if not await self._page():
                    return False
        except AskFailed as e:
            return self._not_now(f"no set of {self._channel} from MetaManager: {e}")
        if not self._follower.proven:
            return False
        self._backoff.reset()
        self._quiet = False
        self._hand_on()
        return True

    async def _page(self) -> bool:
        answer = await self._bus.ask(c.META_PAGE, self._follower.ask(), channel=self._channel)
        if answer.verdict != "ok":
            return self._not_now(f"MetaManager: {answer.verdict} {answer.reason}")
        change = self._follower.judge(answer)
        if change is not None:
            self._follower.commit(change)
            self._keep(change)
        self._follower.after(answer, change)
        return change is not None

    def _keep(self, change: Change) -> None:
        for key in change.deletes:
            self._puts.pop(key, None)
        for put in change.puts:
            self._puts[put.entry.key] = put

    def _hand_on(self) -> None:
        as_of = self._follower.mark.as_of
        taken = self._as_of() or self._handed
        if as_of is None or as_of == self._handed == taken:
            return
        try:
            if self._take(self._puts.values(), as_of):
                self._handed = as_of
        except Exception as bug:  # what is held serves meanwhile; tried again at each turn
            self._bus.letters.failed(f"the set of {self._channel}", bug, by_place=True, after=HAND_ON_TRIES)

    def _not_now(self, why: str) -> bool:
        if not self._quiet:
            log.info("%s: %s; what is held here serves meanwhile", self._bus.unit, why)
            self._quiet = True
        return False
