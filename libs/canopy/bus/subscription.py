"""A subscription that outlives its connection: while two connections carry it, each message is taken once, in order.

The old connection's messages are taken as they come and remembered; the new one's wait until the old one has given its
last, and what it gave already is passed over. Two messages that are equal in subject, reply, headers and body within
these milliseconds count as one only where the old connection gave one more of them than the new one.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg

from canopy.bus.client import FAILURES, NatsClient

Callback = Callable[[Msg], Awaitable[None]]
LAST_SECONDS = 5.0
"""The most that messages of the new connection wait for handlers of the old one's."""


class Subscription:
    """Made by `Connection.subscribe`; `unsubscribe` ends it."""

    def __init__(self, subject: str, queue: str, cb: Callback, ended: "Callable[[Subscription], None]") -> None:
        self.subject, self._queue, self._cb, self._ended = subject, queue, cb, ended
        self._on: Any = None
        self._overlap: Overlap | None = None

    async def bind(self, client: NatsClient) -> None:
        self._on = await client.subscribe(self.subject, queue=self._queue, cb=self._cb)

    async def unsubscribe(self) -> None:
        """What is not taken yet is thrown away."""
        self._ended(self)
        if self._overlap is not None:
            self._overlap.drop()
        await self._on.unsubscribe()

    async def double(self, client: NatsClient) -> "Overlap":
        """Subscribe on a second connection as well."""
        self._overlap = overlap = Overlap(self._cb, self._on, shared=bool(self._queue))
        self._on = overlap.on = await client.subscribe(self.subject, queue=self._queue, cb=overlap.take_new)
        return overlap

    def undone(self) -> None:
        """The second connection is not taken: as it was before `double`, if that was called."""
        if self._overlap is not None:
            self._on, self._overlap = self._overlap.undo(), None

    def settled(self) -> None:
        """One connection carries it again."""
        self._overlap = None


class Overlap:
    """One subscription on two connections: `old` and `on` are nats-py's. In a queue group (`shared`) the server gives
    each message to one of them only."""

    def __init__(self, cb: Callback, old: Any, shared: bool) -> None:
        self._cb, self._old, self._shared = cb, old, shared
        self.on: Any = None
        self._seen: Counter[tuple[str, str, bytes, bytes]] = Counter()
        self._free = asyncio.Event()
        self._judged = 0
        old._cb = self._take_old

    def drop(self) -> None:
        """Nobody wants the messages of either any more."""
        self._cb = _nothing
        self._free.set()

    def undo(self) -> Any:
        """The old one alone counts; it is returned. Of a queue group the new one's messages are nobody else's."""
        self._old._cb = self._cb
        if not self._shared:
            self._cb = _nothing
        self._free.set()
        return self._old

    def free(self) -> None:
        """Nothing of the new one waits any more."""
        self._free.set()

    async def leave(self) -> None:
        """No more messages over the old one; those that it gave stay in its hands."""
        with contextlib.suppress(*FAILURES):
            await self._old._conn._send_unsubscribe(self._old._id)

    async def hand_over(self) -> None:
        """When the old one's are handled, those of the new one; called when both connections are flushed."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._old._pending_queue.join()
            self._judged += self.on._pending_queue.qsize()
        finally:
            self.free()
        if not self._judged:
            self._done()

    async def _take_old(self, message: Msg) -> None:
        if not self._shared:
            self._seen[_key(message)] += 1
        await self._cb(message)

    async def take_new(self, message: Msg) -> None:
        if not self._free.is_set():
            self._judged += 1
            await self._free.wait()
        self._judged -= 1
        again = self._seen[_key(message)] > 0
        if again:
            self._seen[_key(message)] -= 1
        if self._judged <= 0:
            self._done()
        if not again:
            await self._cb(message)

    def _done(self) -> None:
        """All that both could have given is judged."""
        self.on._cb = self._cb
        self._seen.clear()


def _key(message: Msg) -> tuple[str, str, bytes, bytes]:
    return message.subject, message.reply, message.data, repr(message.headers).encode()


async def _nothing(_: Msg) -> None:
    pass
