"""nats-py's client as we want it: it comes back after every end of a connection, and is dialled within a bound.

Only `connection` and `rotation` use it. What of nats-py's inside is touched is touched here and in `subscription`.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nats
from nats.aio.client import Client
from nats.aio.transport import TcpTransport

if TYPE_CHECKING:
    from canopy.identity.identity import Identity


log = logging.getLogger("canopy.bus")
PING_SECONDS = 5
CONNECT_SECONDS = 5
FLUSH_SECONDS = 2
DIAL_SECONDS = 15.0
"""Of one try; then it is begun anew."""
AFTER_BUG_SECONDS = 1.0
END_SECONDS = 5.0
PERMISSIONS = "permissions violation"
FAILURES = (TimeoutError, OSError, nats.errors.Error)
"""ssl.SSLError is an OSError."""
Happened = Callable[[], Awaitable[None]] | None


class _Transport(TcpTransport):  # type: ignore[misc]
    """nats-py's, mended where TLS fails or ends."""

    _io_reader: Any
    _io_writer: Any

    async def connect_tls(self, *args: Any, **more: Any) -> None:
        """A handshake that failed leaves nothing to wait for; one that did not is said to asyncio to be TLS, which
        would warn of each connection that ends."""
        try:
            await super().connect_tls(*args, **more)
        except BaseException:
            self._io_writer.transport.abort()
            self._io_reader = self._io_writer = None
            raise
        self._io_writer._protocol._over_ssl = True

    async def readline(self) -> bytes:
        """Of a connection that begins: its end is no line. A server closes when it does not like a certificate."""
        line: bytes = await super().readline()
        if not line:
            raise ConnectionResetError("the server closed the connection: it does not take this certificate or user")
        return line

    def __bool__(self) -> bool:
        """There is a transport, be it connected or not: nats-py is to make no other."""
        return True


class NatsClient(Client):  # type: ignore[misc]
    """A connection that the server ends with an error (its time is over, it was thrown out) is made again like one that
    broke: nats-py's own would be closed for good, and its handlers cut off in the middle."""

    _transport: Any
    identity: "Identity | None" = None
    """Whose certificate it was dialled with."""

    async def _connect_to_server(self, s: Any) -> None:
        """Who is to end tries no further: a bound of time that is over just then hides a cancelling (before Python
        3.12), and nats-py would go on for ever."""
        if self._transport is None:
            self._transport = _Transport()
        try:
            await super()._connect_to_server(s)
        finally:
            if self._is_to_end():
                raise asyncio.CancelledError

    def _is_to_end(self) -> bool:
        return asyncio.current_task() is self._reconnection_task and (self.is_closed or is_cancelled())

    async def _process_err(self, err_msg: str) -> None:
        error = nats.errors.Error(f"nats: {err_msg.strip(chr(39))}")
        if PERMISSIONS in err_msg.lower():
            await self._error_cb(error)
            return
        self._err = error
        await self._process_op_err(error)

    async def _process_pong(self) -> None:
        """nats-py's ends the connection at the answer to a PING for which nobody waits any more: a slow server's."""
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    async def _attempt_reconnect(self) -> None:
        """nats-py's gives up for good at an exception that it does not know."""
        while not self.is_closed:
            try:
                await super()._attempt_reconnect()
                return
            except Exception:
                if self._is_to_end():
                    return
                log.exception("reconnecting; trying on")
                self._status = Client.RECONNECTING
                await asyncio.sleep(AFTER_BUG_SECONDS)

    def retire(self) -> None:
        """It is no longer the one: it says nothing, and does not come back."""
        self.options["allow_reconnect"] = False
        self.tell(None, None)
        self._error_cb = _quiet

    def tell(self, disconnected: Happened, reconnected: Happened) -> None:
        """Whom to call at a loss, and when it is back."""
        self._disconnected_cb, self._reconnected_cb = disconnected, reconnected

    def unsent(self) -> list[bytes]:
        """Published, and not on its way yet."""
        return [command for command in self._pending if command.startswith((b"PUB ", b"HPUB "))]

    def send_first(self, commands: Sequence[bytes]) -> None:
        """Before all that is published from now on."""
        self._pending[:0] = commands
        self._pending_data_size += sum(map(len, commands))

    @property
    def server_run(self) -> str:
        return str(self._server_info.get("server_id", ""))

    async def flushed(self) -> bool:
        """Until the server has taken what was sent and subscribed, and all that it sent before is here; False if there
        is no server. nats-py's own flush writes its PING in front of what is still pending: that goes out first.

        A connection that is lost meanwhile cancels what is waited for here, and that is no cancelling of who waits."""
        try:
            if self.is_connected:
                async with asyncio.timeout(FLUSH_SECONDS):
                    await self._flush_pending(force_flush=True)
                await self.flush(FLUSH_SECONDS)
                return True
        except FAILURES:
            pass
        except asyncio.CancelledError:
            if is_cancelled():
                raise
        return False

    async def ended(self) -> None:
        """Close; what waits has nowhere to go without a server: nats-py would try, fail, and leave its tasks."""
        if self._flush_queue is None:
            return  # it never was connected
        if not self.is_connected:
            self._pending.clear()
            self._pending_data_size = 0
        with contextlib.suppress(*FAILURES):
            async with asyncio.timeout(END_SECONDS):
                await self.close()


@dataclass(frozen=True, slots=True)
class Dial:
    """How the connections of a process are made; all of them alike but for their certificate."""

    servers: tuple[str, ...]
    name: str
    wait_seconds: float
    nkey_seed: str = ""

    async def __call__(
        self, tls: ssl.SSLContext, error: Callable[[Exception], Awaitable[None]], first: str = ""
    ) -> NatsClient:
        """Connect, to the server `first` if it can. Raises one of FAILURES after DIAL_SECONDS at most."""
        client = NatsClient()
        key = {"nkeys_seed_str": self.nkey_seed} if self.nkey_seed else {}
        servers = sorted(self.servers, key=lambda url: url != first) if first else list(self.servers)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                await client.connect(
                    servers=servers,
                    name=self.name,
                    tls=tls,
                    dont_randomize=bool(first),
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=self.wait_seconds,
                    connect_timeout=CONNECT_SECONDS,
                    ping_interval=PING_SECONDS,
                    max_outstanding_pings=2,
                    error_cb=error,
                    **key,
                )
            if not client.is_connected:  # nats-py takes the end of the stream for a welcome
                raise nats.errors.Error("the server closed the connection instead of letting us in")
        except BaseException:
            client.retire()
            await client.ended()
            raise
        client.options["dont_randomize"] = False
        return client


def is_cancelled() -> bool:
    """Whether somebody cancelled the task that asks, and not just what it waits for."""
    me = asyncio.current_task()
    return me is not None and me.cancelling() > 0


async def _quiet(_: Exception) -> None:
    pass
