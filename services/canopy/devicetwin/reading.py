"""Reading the set of devices from MetaManager: at start, when it says so, and on a timer (RULES 9).

Only a proven set is handed on, and never one older than that of the stored rows. Without MetaManager the rows serve.
"""

import asyncio
import logging
import random
from collections.abc import Callable

from canopy.bus import AskFailed, Bus, Place
from canopy.contracts import catalogue as c
from canopy.contracts.wire import AsOf, Key, Put, SetChanged
from canopy.devicetwin.batch import SetRead
from canopy.devicetwin.desired import DEVICE, MODEL, facts
from canopy.devicetwin.stream import wait_for
from canopy.runtime.backoff import Backoff
from canopy.sync.down import Change, Follower

log = logging.getLogger("canopy.devicetwin")

CHANNEL = "devices"
FIRST_SECONDS, MOST_SECONDS = 0.2, 10.0
MOST_PAGES = 10_000


class Reading:
    """`run` follows the set; `changed` is MetaManager's word that there is another one."""

    def __init__(
        self,
        bus: Bus,
        put: Callable[[SetRead], bool],
        as_of: Callable[[], AsOf | None],
        seconds: float,
        rng: random.Random,
    ) -> None:
        self._bus, self._put, self._as_of, self._seconds = bus, put, as_of, seconds
        self._follower = Follower((), as_of())
        self._puts: dict[Key, Put] = {}
        self._woken = asyncio.Event()
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, rng)
        self._rng, self._quiet = rng, False
        self._handed: AsOf | None = None
        self._warned: dict[tuple[str, str], str] = {}

    async def changed(self, message: SetChanged, place: Place[SetChanged]) -> None:
        self._woken.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            self._woken.clear()
            if await self._pass():
                await wait_for(self._woken, self._seconds * self._rng.uniform(0.8, 1.2))
            else:
                await wait_for(self._woken, self._backoff.next_seconds())

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
            self._say(f"no set of devices from MetaManager: {e}")
            return False
        if not self._follower.proven:
            return False
        self._backoff.reset()
        self._quiet = False
        self._hand_on()
        return True

    async def _page(self) -> bool:
        answer = await self._bus.ask(c.META_PAGE, self._follower.ask(), channel=CHANNEL)
        if answer.verdict != "ok":
            self._say(f"MetaManager: {answer.verdict} {answer.reason}")
            return False
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
            if put.entry.kind in (DEVICE, MODEL):
                self._puts[put.entry.key] = put

    def _hand_on(self) -> None:
        as_of = self._follower.mark.as_of
        if as_of is None or (as_of == self._handed and as_of == self._as_of()):
            return
        devices, wrong = facts(self._puts.values())
        for name, why in wrong.items():
            if self._warned.get(name) != why:
                log.error("cannot be read: %s", why)
        self._warned = wrong
        if self._put(SetRead(devices, as_of)):
            self._handed = as_of

    def _say(self, why: str) -> None:
        if not self._quiet:
            log.info("%s; the devices held here serve meanwhile", why)
            self._quiet = True
