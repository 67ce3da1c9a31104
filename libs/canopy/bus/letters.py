"""Dead letters of a unit on their way to CloudHub: asked until answered, over EdgeHub from a node.

Whoever runs a unit also runs a LetterSender for it, as it does a SpanSender. A letter leaves the unit's file only when
the cloud has it; it may come twice, and its id says so.
"""

import logging
import random

import msgspec

from canopy.bus.bus import Bus, TooBig
from canopy.bus.outcome import AskFailed, Reject
from canopy.contracts import catalogue as c
from canopy.contracts.roles import ROLES
from canopy.contracts.wire import DeadLetter, LetterBatch, Verdict
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.metrics import Metrics

log = logging.getLogger("canopy.bus")
LOOK_SECONDS = 1.0
ASK_SECONDS = 5.0
MOST_LETTERS = 10
"""In one message: each has at most some 20 KB."""


FIRST_SECONDS, MOST_SECONDS = 1.0, 15.0


def patient() -> Backoff:
    """Between tries that the cloud does not take."""
    return Backoff(FIRST_SECONDS, MOST_SECONDS, random.Random())  # noqa: S311 - spreads retries, keeps no secret


def measure(letters: DeadLetters, metrics: Metrics) -> None:
    """Register what is counted of a unit's letters."""
    prefix = f"canopy_{letters.unit}_dead_letters"
    metrics.counted(f"{prefix}_total", lambda: float(letters.total))
    metrics.gauge(f"{prefix}_waiting", read=lambda: float(letters.unsent))
    metrics.counted(f"{prefix}_dropped_total", lambda: float(letters.dropped))


class LetterSender:
    """`run` until cancelled."""

    def __init__(self, bus: Bus, letters: DeadLetters, clock: Clock, backoff: Backoff) -> None:
        self._bus, self._letters, self._clock, self._backoff = bus, letters, clock, backoff
        self._told = 0

    async def run(self) -> None:
        while True:
            sent = await self.send()
            await self._clock.sleep(LOOK_SECONDS if sent else self._backoff.next_seconds())

    async def send(self) -> bool:
        """What waits; False if the cloud did not take it."""
        while letters := self._letters.waiting(MOST_LETTERS):
            if not await self._taken(letters):
                return False
        self._backoff.reset()
        return True

    async def _taken(self, letters: list[DeadLetter]) -> bool:
        dropped = self._letters.dropped
        try:
            verdict = await self._ask(LetterBatch(letters=letters, dropped=dropped - self._told))
        except (Reject, TooBig) as e:
            log.warning("dead letters are refused, and stay in the log only: %s", e)
            self._letters.sent(letters)
            return True
        except (AskFailed, msgspec.DecodeError) as e:
            log.debug("dead letters: %s", e)
            return False
        if verdict.verdict != "ok":
            return False
        self._told = dropped
        self._letters.sent(letters)
        return True

    async def _ask(self, batch: LetterBatch) -> Verdict:
        if c.HUB_LETTERS in ROLES[self._bus.unit].asks:
            return await self._bus.ask(c.HUB_LETTERS, batch, timeout=ASK_SECONDS)
        return await self._bus.ask(c.CLOUD_LETTERS, batch, timeout=ASK_SECONDS, unit=self._bus.unit)
