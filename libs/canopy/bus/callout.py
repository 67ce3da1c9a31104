"""Answers the auth callout of a hub: who wants in waits in a bounded line here, and not so long that nobody hears us.

The hub asks once and waits AUTH_SECONDS; what is older is not answered, since its peer tries again: in a storm every
answer counts. spire_integration opens it on its connection of the account AUTH; replicas share the queue group.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg

from canopy.bus.connection import Connection, NotConnected
from canopy.bus.rights import CALLOUT
from canopy.bus.trust import AUTH_SECONDS
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.bus")
QUEUE = "spire"
WAIT_SECONDS = AUTH_SECONDS * 0.8
MOST_WAITING = 10_000
Answer = Callable[[bytes], bytes | None]
"""From the request to the answer; None: it is none that deserves one."""


class Callout:
    """`run` answers until cancelled; a turn of the event loop lies between two requests. `late` counts the too old."""

    def __init__(self, connection: Connection, answer: Answer, clock: Clock, late: Callable[[], None]) -> None:
        self._connection, self._answer, self._clock, self._late = connection, answer, clock, late
        self._line: deque[tuple[float, Msg]] = deque()
        self._came = asyncio.Event()
        self._subscription: Any = None

    @property
    def waiting(self) -> int:
        return len(self._line)

    async def run(self) -> None:
        self._subscription = await self._connection.subscribe(CALLOUT, self._take, QUEUE)
        try:
            while True:
                if not self._line:
                    await self._came.wait()
                    self._came.clear()
                await self.answer_waiting()
        finally:
            await self._leave()

    async def answer_waiting(self) -> None:
        """Everybody in the line, the first first."""
        while self._line:
            since, message = self._line.popleft()
            if self._clock.monotonic() - since > WAIT_SECONDS:
                self._late()
                continue
            await self._say(message)
            await asyncio.sleep(0)

    async def _take(self, message: Msg) -> None:
        if len(self._line) >= MOST_WAITING:
            self._line.popleft()
            self._late()
        self._line.append((self._clock.monotonic(), message))
        self._came.set()

    async def _say(self, message: Msg) -> None:
        try:
            answer = self._answer(message.data)
        except Exception:  # nobody is let in by a bug, and the next one is answered
            log.exception("a request of the auth callout")
            return
        if answer is None or not message.reply:
            return
        try:
            await self._connection.answer(message, answer)
        except NotConnected as e:
            log.debug("an answer of the auth callout: %s", e)

    async def _leave(self) -> None:
        """No more of the group: what comes goes to the other replicas, what is in the line is still answered."""
        if self._connection.connected:
            await self._subscription.unsubscribe()
            await self.answer_waiting()
            await self._connection.flush()
