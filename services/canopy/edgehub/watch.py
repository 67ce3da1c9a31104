"""Looks at the leaf's connection to the hub, several times a second: a link that was cut between two beats, and is
back, would show in nothing else. `unit.py` runs it beside the session."""

from collections.abc import Awaitable, Callable

from canopy.edgehub.core import Gone, Hint
from canopy.edgehub.session import SessionKeeper
from canopy.runtime.clock import Clock


class LinkWatch:
    """`linked` is asked every `seconds`; less than the leaf's wait before it reconnects (1 s), so no cut is missed."""

    def __init__(
        self, keeper: SessionKeeper, linked: Callable[[], Awaitable[bool | None]], clock: Clock, seconds: float
    ) -> None:
        self._keeper, self._linked, self._clock, self._seconds = keeper, linked, clock, seconds
        self._was = True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await self._clock.sleep(self._seconds)

    async def look(self) -> None:
        """One look; what has changed is told to the session."""
        now = await self._linked()
        if now is None or now == self._was:
            return
        self._was = now
        await self._keeper.post(Hint() if now else Gone(self._keeper.machine.link.session))
