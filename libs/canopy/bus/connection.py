"""One connection to a nats-server, shared by the units of a process. It reconnects for ever, with jitter."""

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

log = logging.getLogger("canopy.bus")

PING_SECONDS = 5
RECONNECT_SECONDS = 0.2
FLUSH_SECONDS = 2
NOT_SENT = (
    nats.errors.OutboundBufferLimitError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionDrainingError,
)
Hook = Callable[[], Awaitable[None]]


class NotConnected(Exception):
    """What was to be sent could not even be kept for later."""


class Connection:
    """Wraps the client. `on_reconnect` hooks run after each reconnect, in the order in which they were added."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client: Client = Client()
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
        user: str = "",
        password: str = "",
        tls: ssl.SSLContext | None = None,
        rng: random.Random | None = None,
    ) -> "Connection":
        """Connect; while nobody listens at `url` (nats://host:port, several with commas), say so and try again."""
        self, rng = cls(url), rng or random.Random()  # noqa: S311
        wait = RECONNECT_SECONDS * rng.uniform(0.75, 1.5)  # each process its own
        while True:
            try:
                await self._connect(name, user, password, tls, wait)
                self._failures = 0
                return self
            except (TimeoutError, OSError, nats.errors.Error) as e:
                await self._error(e)
                await asyncio.sleep(wait)

    async def _connect(self, name: str, user: str, password: str, tls: ssl.SSLContext | None, wait: float) -> None:
        options: dict[str, Any] = {"user": user, "password": password} if user else {}
        if tls is not None:
            options["tls"] = tls
        self.client = await nats.connect(
            servers=self.url.split(","),
            name=name,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=wait,
            connect_timeout=5,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            **options,
        )

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
        return str(self.client._server_info.get("server_id", ""))

    async def close(self, drain: bool = True) -> None:
        """Finish what is in hand (bounded), then close."""
        if self.client.is_closed:
            return
        try:
            if drain and self.client.is_connected:
                await asyncio.wait_for(self.client.drain(), 5)
            else:
                await self._close()
        except (TimeoutError, nats.errors.Error):
            await self._close()

    async def _close(self) -> None:
        if (
            not self.client.is_connected
        ):  # what waits has nowhere to go; the client would try, fail, and leave its tasks
            self.client._pending.clear()
            self.client._pending_data_size = 0
        await self.client.close()

    async def flush(self) -> None:
        """Until the server has taken what was sent and subscribed; at once if there is no server.

        The client's own flush writes its PING in front of what is still pending: that has to go out first, or the
        PONG says nothing of it.
        """
        with contextlib.suppress(TimeoutError, OSError, nats.errors.Error):
            if self.client.is_connected:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self.client._flush_pending(force_flush=True)
                await self.client.flush(FLUSH_SECONDS)

    async def publish(self, subject: str, data: bytes, reply: str = "", headers: dict[str, str] | None = None) -> None:
        """Send, or keep for the next connection. Raises NotConnected when too much is kept already, or it is closed."""
        try:
            await self.client.publish(subject, data, reply=reply, headers=headers)
        except NOT_SENT as e:
            raise NotConnected(str(e)) from None

    async def subscribe(self, subject: str, cb: Callable[[Msg], Awaitable[None]], queue: str = "") -> Any:
        return await self.client.subscribe(subject, queue=queue, cb=cb)

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
        for hook in list(self._hooks):
            task = asyncio.get_running_loop().create_task(self._run(hook))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    @staticmethod
    async def _run(hook: Hook) -> None:
        try:
            await hook()
        except Exception:
            log.exception("after a reconnect")
