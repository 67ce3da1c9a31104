"""What a unit keeps until the cloud has it, on its way: asked until answered, so many at a time, drops told once.

`letters` and `audits` are its two kinds. What was sent may come twice, and its id says so.
"""

import logging
import random
from typing import ClassVar, Generic, Protocol, TypeVar

import msgspec

from canopy.bus.bus import Bus, TooBig
from canopy.bus.outcome import AskFailed, Reject
from canopy.contracts.wire import Verdict
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.bus")
LOOK_SECONDS = 1.0
ASK_SECONDS = 5.0
FIRST_SECONDS, MOST_SECONDS = 1.0, 15.0
T = TypeVar("T")


class Kept(Protocol[T]):
    """What waits in a unit."""

    dropped: int

    def waiting(self, most: int) -> list[T]: ...
    def sent(self, items: list[T], /) -> None: ...


class Sender(Generic[T]):
    """`run` until cancelled. A kind says how it asks, and what a refusal means."""

    most: ClassVar[int]
    """In one message."""

    def __init__(self, bus: Bus, kept: Kept[T], clock: Clock) -> None:
        self._bus, self._kept, self._clock = bus, kept, clock
        self._backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, random.Random())  # noqa: S311 - spreads retries
        self._told = 0

    async def ask(self, items: list[T], dropped: int) -> Verdict:
        """Hand them over; `dropped` is how many more were dropped since that was told."""
        raise NotImplementedError

    def refused(self, items: list[T], why: Exception) -> None:
        """They will never be taken: they do not wait any more."""
        raise NotImplementedError

    async def run(self) -> None:
        while True:
            sent = await self.send()
            await self._clock.sleep(LOOK_SECONDS if sent else self._backoff.next_seconds())

    async def send(self) -> bool:
        """What waits; False if the cloud did not take it."""
        while items := self._kept.waiting(self.most):
            if not await self._taken(items):
                return False
        self._backoff.reset()
        return True

    async def _taken(self, items: list[T]) -> bool:
        dropped = self._kept.dropped
        try:
            verdict = await self.ask(items, dropped - self._told)
        except (Reject, TooBig) as e:
            self.refused(items, e)
            self._kept.sent(items)
            return True
        except (AskFailed, msgspec.DecodeError) as e:
            log.debug("not taken: %s", e)
            return False
        if verdict.verdict != "ok":
            return False
        self._told = dropped
        self._kept.sent(items)
        return True
