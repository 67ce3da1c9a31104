"""Dead letters of a unit on their way to CloudHub: asked until answered, over EdgeHub from a node.

Whoever runs a unit also runs a LetterSender for it, as it does a SpanSender. A letter leaves the unit's file only when
the cloud has it; it may come twice, and its id says so.
"""

import logging

from canopy.bus.sending import ASK_SECONDS, Sender
from canopy.contracts import catalogue as c
from canopy.contracts.roles import ROLES
from canopy.contracts.wire import DeadLetter, LetterBatch, Verdict
from canopy.runtime.letters import DeadLetters
from canopy.runtime.metrics import Metrics

log = logging.getLogger("canopy.bus")


def measure(letters: DeadLetters, metrics: Metrics) -> None:
    """Register what is counted of a unit's letters."""
    prefix = f"canopy_{letters.unit}_dead_letters"
    metrics.counted(f"{prefix}_total", lambda: float(letters.total))
    metrics.gauge(f"{prefix}_waiting", read=lambda: float(letters.unsent))
    metrics.counted(f"{prefix}_dropped_total", lambda: float(letters.dropped))


class LetterSender(Sender[DeadLetter]):
    """Of one unit, in the cloud or at a node."""

    most = 10
    """Each has at most some 20 KB."""

    async def ask(self, items: list[DeadLetter], dropped: int) -> Verdict:
        batch = LetterBatch(letters=items, dropped=dropped)
        if c.HUB_LETTERS in ROLES[self._bus.unit].asks:
            return await self._bus.ask(c.HUB_LETTERS, batch, timeout=ASK_SECONDS)
        return await self._bus.ask(c.CLOUD_LETTERS, batch, timeout=ASK_SECONDS, unit=self._bus.unit)

    def refused(self, items: list[DeadLetter], why: Exception) -> None:
        log.warning("dead letters are refused, and stay in the log only: %s", why)
