"""The listening end of the join endpoint: TLS without client certificates, and bounds on whoever comes..

Strangers reach it, so each connection has an end: so many at once, so many of one address, so long for the handshake,
so long for all that is asked over it. The next ones wait in the kernel.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from canopy.runtime.settings import host_and_port
from canopy.spire_integration.joining_limits import Limits, network

log = logging.getLogger("canopy.spire_integration")
HEAD_BYTES = 8192
HANDSHAKE_SECONDS = 5.0
GOODBYE_SECONDS = 1.0
ACCEPT_AGAIN_SECONDS = 0.1
QUEUE = 512


@dataclass(frozen=True, slots=True)
class Bounds:
    """`seconds` are for everything that is asked over one connection. A handshake costs this process some 3 ms, and it
    lets in at the hub too: so many a second, of all addresses and (`address_...`) of one."""

    connections: int = 200
    per_address: int = 50
    seconds: float = 15.0
    per_second: float = 100.0
    address_per_second: float = 10.0
    address_burst: int = 100


class _Talk(H11Protocol):
    """HTTP/1.1 over one connection; `over` is set when it has gone."""

    def __init__(self, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {})
        self.logger = logging.Logger("uvicorn", logging.CRITICAL)  # strangers fill no log with their nonsense
        self.over = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.over.set()


class Door:
    """`async with Door(app, context, "127.0.0.1:0") as door:` serves at `door.url` until the block ends."""

    def __init__(self, app: Any, context: ssl.SSLContext, listen: str, bounds: Bounds | None = None) -> None:
        self._context, self._listen, self._bounds = context, listen, bounds or Bounds()
        self._config = Config(
            app, log_config=None, access_log=False, lifespan="off", server_header=False, ws="none", proxy_headers=False,
            h11_max_incomplete_event_size=HEAD_BYTES, timeout_keep_alive=round(self._bounds.seconds),
        )  # fmt: skip
        self._state = ServerState()
        self._slots = asyncio.Semaphore(self._bounds.connections)
        self._pace = Limits(self._bounds.per_second, self._bounds.per_second, 1)
        self._paces = Limits(self._bounds.address_per_second, self._bounds.address_burst)
        self._of: Counter[str] = Counter()
        self._talks: set[asyncio.Task[None]] = set()
        self.url = ""

    @property
    def connections(self) -> int:
        return len(self._talks)

    async def __aenter__(self) -> "Door":
        self._listener = _bound(self._listen)
        host, port = self._listener.getsockname()[:2]
        self.url = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._accepting.cancel()
        await asyncio.gather(self._accepting, return_exceptions=True)
        self._listener.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    async def wait(self) -> None:
        """Until it ends, which it does not by itself."""
        await asyncio.shield(self._accepting)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._slots.acquire()
            while wait := self._pace.take("", loop.time()):  # noqa: ASYNC110 - the others wait in the kernel
                await asyncio.sleep(wait)
            try:
                connection, address = await loop.sock_accept(self._listener)
            except OSError as e:  # out of descriptors: others will end
                log.warning("the join endpoint cannot take a connection: %s", e)
                self._slots.release()
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            self._take(connection, network(str(address[0])))

    def _take(self, connection: socket.socket, caller: str) -> None:
        paced = self._paces.take(caller, asyncio.get_running_loop().time())
        if paced or self._of[caller] >= self._bounds.per_address:
            connection.close()
            self._slots.release()
            return
        self._of[caller] += 1
        talk = asyncio.create_task(self._talk(connection))
        self._talks.add(talk)
        talk.add_done_callback(lambda done: self._gone(done, caller))

    def _gone(self, talk: "asyncio.Task[None]", caller: str) -> None:
        self._talks.discard(talk)
        self._of -= Counter((caller,))  # and forgets who has none
        self._slots.release()
        if not talk.cancelled() and (error := talk.exception()) is not None:
            log.error("a connection to the join endpoint failed", exc_info=error)

    async def _talk(self, connection: socket.socket) -> None:
        loop, transport = asyncio.get_running_loop(), None
        talk = _Talk(self._config, self._state)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._bounds.seconds):
                    transport, _ = await loop.connect_accepted_socket(
                        lambda: talk,
                        connection,
                        ssl=self._context,
                        ssl_handshake_timeout=HANDSHAKE_SECONDS,
                        ssl_shutdown_timeout=GOODBYE_SECONDS,
                    )
                    await talk.over.wait()
        finally:
            if transport is not None:
                transport.abort()
            else:
                connection.close()


def _bound(listen: str) -> socket.socket:
    """A listening socket. Raises OSError that says what to change."""
    host, port = host_and_port(listen)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        variable = "CANOPY_SPIRE_INTEGRATION_JOIN_LISTEN"
        raise OSError(e.errno, f"the join endpoint cannot listen on {listen} ({variable}): {e.strerror}") from e
    listener.listen(QUEUE)
    listener.setblocking(False)
    return listener
