"""Dead letters and the audit of this node's units on their way up: carried as they are, answered when the cloud has
stored them.

Nothing is kept here: a letter stays with its unit until then. They bear no stamp of a session: they are no state.
"""

from collections.abc import Callable
from typing import Any

from canopy.bus import AskTimeout, Bus, NoResponders, Place, Retry
from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject

ASK_SECONDS = 3.0
DOWN_RETRY_SECONDS = 5.0


class LetterCarrier:
    """`up` says whether the cloud answers."""

    def __init__(self, bus: Bus, up: Callable[[], bool]) -> None:
        self._bus, self._up = bus, up

    async def open(self) -> None:
        await self._bus.serve_raw(c.HUB_LETTERS, self.letters)
        await self._bus.serve_raw(c.HUB_AUDIT, self.audit)

    async def letters(self, body: bytes, place: Place[Any]) -> bytes:
        """CloudHub's answer; its refusal is the asker's. Raises AskFailed."""
        return await self._carry(c.LETTERS, body)

    async def audit(self, body: bytes, place: Place[Any]) -> bytes:
        """As `letters`."""
        return await self._carry(c.AUDIT_UP, body)

    async def _carry(self, subject: AnySubject, body: bytes) -> bytes:
        if not self._up():
            raise Retry("the cloud does not answer", DOWN_RETRY_SECONDS)
        try:
            return await self._bus.ask_raw(subject, body, timeout=ASK_SECONDS, node=self._bus.node)
        except (AskTimeout, NoResponders) as e:  # the link has just gone: no bug
            raise Retry(str(e), DOWN_RETRY_SECONDS) from None
