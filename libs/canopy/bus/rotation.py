"""A connection's certificate follows its source: a second connection is made with the newer one, takes over, and the
first one ends. Nothing is lost on the way, and nobody waits longer than for a round trip. `Connection` runs it.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from canopy.bus.client import FAILURES, NatsClient, is_cancelled
from canopy.runtime.logs import once_per

if TYPE_CHECKING:
    from canopy.bus.connection import Connection
    from canopy.bus.subscription import Overlap, Subscription
    from canopy.identity.sources import Identity, Source
    from canopy.identity.tls import Expected, Rotating

log = logging.getLogger("canopy.bus")
LINGER_SECONDS = 10.0
"""For answers to what came over the old connection: the server takes them there only."""
SPREAD, MOST_SPREAD_SECONDS = 0.1, 10.0
"""Of what is left of the old certificate: so many processes do not come at once."""
RETRY_SECONDS = 1.0
PROVEN_SECONDS, PROVEN_SHARE = 2.5, 0.3
"""How long a new connection only stands, and the most of what is left: a server that was reading its configuration when
it was dialled may end it when AUTH_SECONDS are over, though it has let it in."""
OTHER_SERVER_SECONDS = 0.25
"""Until the servers of a cluster have told each other what is subscribed."""
SAY_AGAIN_SECONDS = 30.0


@dataclass
class Identified:
    """Who a process is at its server: the source of its certificates, and a context that expects who is to be there."""

    source: "Source"
    newest: "Identity"
    context: "Rotating"
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    async def begin(cls, source: "Source", expected: "Expected") -> "Identified":
        """Wait for an identity, and make the context of all connections of it."""
        from canopy.identity.tls import client_context  # only here: it takes a while, and who wants help needs none

        newest = await source.first()
        return cls(source, newest, client_context(newest, expected))

    async def follow(self) -> None:
        """Take what the source gives, until cancelled."""
        async for identity in self.source.changes():
            try:
                self.context.renew(identity)
            except (OSError, ValueError) as e:
                log.warning("the newer certificate of %s is of no use: %s", identity.svid.id, e)
                continue
            self.newest = identity
            self.changed.set()


class Rotation:
    """`run` until cancelled."""

    def __init__(
        self, connection: "Connection", identified: Identified, rng: random.Random, proven_seconds: float
    ) -> None:
        self._connection, self._identified, self._rng = connection, identified, rng
        self._proven_seconds = proven_seconds
        self._say = once_per(SAY_AGAIN_SECONDS)
        self._lingering: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        following = asyncio.create_task(self._for_ever(self._identified.follow))
        try:
            await self._for_ever(self._next)
        finally:
            following.cancel()
            for task in self._lingering:
                task.cancel()
            await asyncio.gather(following, *self._lingering, return_exceptions=True)

    async def _for_ever(self, step: Callable[[], Awaitable[None]]) -> None:
        """Whose certificate is not renewed cannot come back one day: a bug ends one step, and not all of them; a
        cancelling that is none either (a bound of time that was over just when it was kept, before Python 3.13)."""
        while True:
            try:
                await step()
            except (Exception, asyncio.CancelledError) as bug:
                if isinstance(bug, asyncio.CancelledError) and is_cancelled():
                    raise
                log.exception("renewing the certificate of the connection to %s; trying on", self._connection.url)
                await asyncio.sleep(RETRY_SECONDS)

    async def _next(self) -> None:
        if not self._outdated():
            await self._identified.changed.wait()
        self._identified.changed.clear()
        await self._renew()

    async def _renew(self) -> None:
        """Until the connection bears the newest certificate, by our doing or because it broke meanwhile."""
        await asyncio.sleep(self._spread())
        while self._outdated():
            if self._connection.connected:
                try:
                    if (new := await self._proven()) is not None:
                        await self._take_over(new)
                    continue
                except FAILURES as e:
                    if self._say("try"):
                        log.warning(
                            "a connection with the newer certificate: %s; trying on", str(e) or type(e).__name__
                        )
            await asyncio.sleep(RETRY_SECONDS * self._rng.uniform(0.5, 1.5))

    def _outdated(self) -> bool:
        now = self._connection.identity
        return now is not None and now.svid.serial != self._identified.newest.svid.serial

    async def _proven(self) -> NatsClient | None:
        """A further connection that has stood for a while, or None. Raises FAILURES."""
        new = await self._connection.dial()
        stands = False
        try:
            await asyncio.sleep(min(self._proven_seconds, PROVEN_SHARE * self._left()))
            stands = bool(new.is_connected)
        finally:
            if not stands:
                await _given_up(new)
        return new if stands else None

    def _spread(self) -> float:
        return self._rng.uniform(0, min(MOST_SPREAD_SECONDS, SPREAD * self._left()))

    def _left(self) -> float:
        now = self._connection.identity
        return max(0.0, now.svid.not_after - self._connection.seconds()) if now is not None else 0.0

    async def _take_over(self, new: NatsClient) -> None:
        """`new` carries all from now on. In this order: subscribe there, send what waits here, go over, leave here."""
        connection = self._connection
        async with connection.changing:
            old = connection.client
            subscriptions = list(connection.subscriptions)
            overlaps = await _doubled(subscriptions, new)
            try:
                whole = await self._go_over(old, new, overlaps)
            except BaseException:
                for overlap in overlaps:
                    overlap.free()
                raise
            finally:
                if connection.client is new:
                    self._let_linger(old)
        await asyncio.gather(*(overlap.hand_over() for overlap in overlaps))
        for subscription in subscriptions:
            subscription.settled()
        if not whole or new.server_run != old.server_run:
            connection.was_away()
        log.debug("the connection to %s has a newer certificate", connection.url)

    async def _go_over(self, old: NatsClient, new: NatsClient, overlaps: "list[Overlap]") -> bool:
        """False if what was said last may not have arrived."""
        whole = await self._connection.go_over(new)
        if new.server_run != old.server_run:
            await asyncio.sleep(OTHER_SERVER_SECONDS)
        for overlap in overlaps:
            await overlap.leave()
        whole = await old.flushed() and whole
        await new.flushed()
        return whole

    def _let_linger(self, old: NatsClient) -> None:
        lingering = asyncio.create_task(self._linger(old))
        self._lingering.add(lingering)
        lingering.add_done_callback(self._lingering.discard)

    async def _linger(self, old: NatsClient) -> None:
        try:
            await asyncio.sleep(LINGER_SECONDS)
        finally:
            self._connection.former.discard(old)
            await old.ended()


async def _doubled(subscriptions: "list[Subscription]", new: NatsClient) -> "list[Overlap]":
    """All of them on `new` as well, or none: then it is given up. Raises FAILURES."""
    try:
        overlaps = [await subscription.double(new) for subscription in subscriptions]
        await new.flushed()
        if not new.is_connected:
            raise ConnectionResetError("the new connection was lost before it was taken")
        return overlaps
    except BaseException:
        for subscription in subscriptions:
            subscription.undone()
        await _given_up(new)
        raise


async def _given_up(client: NatsClient) -> None:
    client.retire()
    await client.ended()
