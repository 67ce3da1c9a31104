"""How long the certificate of a process lasts: a metric, in each unit's health, and as a warning well before the end.

`process` runs it. Certificates are renewed when half of their life is over: with a quarter left, their source fails.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from canopy.contracts.times import rfc3339
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health
from canopy.runtime.logs import once_per

if TYPE_CHECKING:
    from canopy.bus import Connection
    from canopy.identity.identity import Identity

log = logging.getLogger("canopy.run")
CHECK, UNTIL, TOO_LATE = "identity", "identity_until", "identity_late"
"""A check of health, and facts: RFC 3339 (empty without an identity), and whether it should have been renewed."""
LATE = 0.25
LOOK_SECONDS = 5.0
SAY_AGAIN_SECONDS = 60.0


class Lasting:
    """Of one process. `connection` is None until it is connected."""

    def __init__(self, healths: Sequence[Health], clock: Clock) -> None:
        self.connection: Connection | None = None
        self._healths, self._clock = healths, clock
        self._say = once_per(SAY_AGAIN_SECONDS, clock.monotonic)

    def left(self) -> Mapping[str, float]:
        """Seconds, by SPIFFE ID."""
        identity = self._identity
        return {str(identity.svid.id): identity.left_seconds(self._now())} if identity else {}

    def late(self) -> Mapping[str, float]:
        """1.0 for what should have been renewed, by SPIFFE ID."""
        return {str(self._identity.svid.id): float(self._late)} if self._identity else {}

    async def run(self) -> None:
        """Until cancelled."""
        for health in self._healths:
            health.tell(UNTIL, self._until)
            health.tell(TOO_LATE, lambda: "yes" if self._late else "no")
        while True:
            self.look()
            await self._clock.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """Once."""
        if (identity := self._identity) is None:
            return
        left = identity.left_seconds(self._now())
        for health in self._healths:
            health.set(CHECK, left > 0, f"{identity.svid.id} lasts until {self._until()}")
        if self._late and self._say("late"):
            log.warning(
                "the certificate of %s ends in %.0f s and has not been renewed: look at who writes CANOPY_IDENTITY_DIR",
                identity.svid.id,
                left,
            )

    @property
    def _identity(self) -> "Identity | None":
        return self.connection.identity if self.connection else None

    @property
    def _late(self) -> bool:
        if (identity := self._identity) is None:
            return False
        life = identity.svid.not_after - identity.svid.not_before
        return identity.left_seconds(self._now()) < LATE * life

    def _until(self) -> str:
        identity = self._identity
        return rfc3339(int(identity.svid.not_after * 1000)) if identity else ""

    def _now(self) -> float:
        return self._clock.now_ms() / 1000
