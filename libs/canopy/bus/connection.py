"""One connection to a nats-server, shared by the units of a process. It reconnects for ever, with jitter, and its
certificate is renewed without anybody noticing (`rotation`).
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import nats
from nats.aio.msg import Msg

from canopy.bus.client import FAILURES, Dial, NatsClient
from canopy.bus.rotation import PROVEN_SECONDS, Identified, Rotation
from canopy.bus.subscription import Callback, Subscription

if TYPE_CHECKING:
    from canopy.identity.sources import Identity, Source
    from canopy.identity.tls import Expected

log = logging.getLogger("canopy.bus")

RECONNECT_SECONDS = 0.2
NOT_SENT = (
    nats.errors.OutboundBufferLimitError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
)
Hook = Callable[[], Awaitable[None]]


class NotConnected(Exception):
    """What was to be sent could not even be kept for later."""


class Connection:
    """Wraps the client. `on_reconnect` hooks run after each reconnect, in the order in which they were added.

    `identity` is what the connection bears now. `former` are connections that only take answers yet.
    """

    def __init__(self, url: str, dial: Dial, identified: Identified) -> None:
        self.url = url
        self.client = NatsClient()
        self.former: set[NatsClient] = set()
        self.subscriptions: dict[Subscription, None] = {}
        self.changing = asyncio.Lock()
        self.identity: Identity | None = None
        self._dial, self._identified = dial, identified
        self._gate: asyncio.Event | None = None
        self._hooks: list[Hook] = []
        self._lost: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._down = False
        self._failures = 0

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        name: str,
        identity: "Source",
        expected: "Expected",
        nkey_seed: str = "",
        reconnect_seconds: float = RECONNECT_SECONDS,
        proven_seconds: float = PROVEN_SECONDS,
        rng: random.Random | None = None,
    ) -> "Connection":
        """Connect to a server whose SPIFFE ID is `expected`; while nobody listens at `url` (nats://host:port, several
        with commas), say so and try again. The first identity that the source gives is waited for."""
        rng = rng or random.Random()  # noqa: S311
        wait = reconnect_seconds * rng.uniform(0.75, 1.5)  # each process its own
        dial = Dial(tuple(url.split(",")), name, wait, nkey_seed)
        identified = await Identified.begin(identity, expected)
        self = cls(url, dial, identified)
        self._run(Rotation(self, identified, rng, proven_seconds).run())
        while True:
            try:
                self._take(await self.dial())
                return self
            except FAILURES as e:
                await self._error(e)
                await asyncio.sleep(wait)
            except BaseException:
                await self.close(False)
                raise

    # --- for `rotation` -----------------------------------------------------------------------------------------------
    async def dial(self) -> NatsClient:
        """A further connection, with the newest certificate, to the same server if it can. Raises FAILURES."""
        at = self.client.connected_url
        first = at.geturl() if at is not None else ""
        newest = self._identified.newest
        client = await self._dial(self._identified.context, self._error, first)
        client.identity = newest
        return client

    async def go_over(self, new: NatsClient) -> bool:
        """Say all further things over `new`, after what was said before; False if that may not have arrived."""
        old, self._gate = self.client, asyncio.Event()
        try:
            whole = await old.flushed()
            if not whole:
                new.send_first(old.unsent())
            self.former.add(old)
            old.retire()
            self._take(new)
            return whole
        finally:
            gate, self._gate = self._gate, None
            gate.set()

    def was_away(self) -> None:
        """Between two connections something may have been missed: as after a reconnect."""
        for lost in list(self._lost):
            lost()
        self._run_hooks()

    def seconds(self) -> float:
        """By the wall clock, since 1970."""
        return time.time()

    def _take(self, client: NatsClient) -> None:
        self.client, self.identity = client, client.identity
        self._down, self._failures = False, 0
        client.tell(self._disconnected, self._reconnected)

    # --- for units ----------------------------------------------------------------------------------------------------
    def on_reconnect(self, hook: Hook) -> None:
        """Run `hook` after each reconnect."""
        self._hooks.append(hook)

    def forget(self, hook: Hook) -> None:
        """Take back an `on_reconnect`."""
        if hook in self._hooks:
            self._hooks.remove(hook)

    def on_lost(self, hook: Callable[[], None]) -> None:
        """Call `hook` when the connection is lost."""
        self._lost.append(hook)

    def forget_lost(self, hook: Callable[[], None]) -> None:
        """Take back an `on_lost`."""
        if hook in self._lost:
            self._lost.remove(hook)

    @property
    def connected(self) -> bool:
        return bool(self.client.is_connected)

    @property
    def server_run(self) -> str:
        """The id that the connected server made for itself when it started."""
        return self.client.server_run

    async def close(self, drain: bool = True) -> None:
        """Finish what is in hand (bounded), then close."""
        for task in list(self._tasks):
            if task is not asyncio.current_task():
                task.cancel()
        for former in list(self.former):
            await former.ended()
        if self.client.is_closed:
            return
        try:
            if drain and self.client.is_connected:
                await asyncio.wait_for(self.client.drain(), 5)
                return
        except FAILURES:
            log.debug("drain", exc_info=True)
        await self.client.ended()

    async def flush(self) -> None:
        """Until the server has taken what was sent and subscribed; at once if there is no server."""
        await self.client.flushed()

    async def publish(self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Send, or keep for the next connection. Raises NotConnected when too much is kept already, or it is closed."""
        if self._gate is not None:
            await self._gate.wait()
        await _publish(self.client, subject, data, reply, headers)

    async def answer(self, message: Msg, data: bytes, headers: dict[str, str] | None = None) -> None:
        """Answer `message`, over the connection that it came by while that is there: the right to answer is there."""
        came = message._client
        if came in self.former and came.is_connected:
            return await _publish(came, message.reply, data, "", headers)
        await self.publish(message.reply, data, headers=headers)

    async def subscribe(self, subject: str, cb: Callback, queue: str = "") -> Subscription:
        """Take what comes on `subject`, over this connection and those that follow it, until `unsubscribe`."""
        async with self.changing:
            subscription = Subscription(subject, queue, cb, self._forget)
            await subscription.bind(self.client)
            self.subscriptions[subscription] = None
            return subscription

    def _forget(self, subscription: Subscription) -> None:
        self.subscriptions.pop(subscription, None)

    async def _error(self, e: Exception) -> None:
        """While there is no connection this comes at each try: said at first, then about once a minute."""
        if not self.client.is_connected:
            self._failures += 1
            if self._failures not in (2, 20) and self._failures % 300:
                return
        log.warning("connection to %s: %s", self.url, str(e) or type(e).__name__)

    async def _disconnected(self) -> None:
        if not self._down and not self.client.is_closed:
            log.warning("connection to %s lost; reconnecting", self.url)
        self._down = True
        for hook in list(self._lost):
            hook()

    async def _reconnected(self) -> None:
        log.info("connection to %s is back", self.url)
        self._down, self._failures = False, 0
        self.identity = self._identified.newest
        self._run_hooks()

    def _run_hooks(self) -> None:
        for hook in list(self._hooks):
            self._run(hook())

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.get_running_loop().create_task(_guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _publish(client: NatsClient, subject: str, data: bytes, reply: str, headers: dict[str, str] | None) -> None:
    try:
        await client.publish(subject, data, reply=reply, headers=headers)
    except NOT_SENT as e:
        raise NotConnected(str(e)) from None


async def _guarded(work: Awaitable[None]) -> None:
    try:
        await work
    except Exception:
        log.exception("after a reconnect")
