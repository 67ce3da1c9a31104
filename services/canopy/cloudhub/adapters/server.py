"""An HTTP server inside a unit: uvicorn on a socket of ours, without its signal handlers and its logs."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import uvicorn

from canopy.runtime.settings import host_and_port

STOP_SECONDS = 5.0
LAST_WORDS_SECONDS = 2
MOST_REQUESTS = 1000
KEEP_ALIVE_SECONDS = 30


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the process's, not ours."""
        yield


class HttpServer:
    """`async with HttpServer(app, "127.0.0.1:0") as server:` serves at `server.url` until the block ends."""

    def __init__(self, app: Any, listen: str) -> None:
        self._listen = listen
        self._server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                limit_concurrency=MOST_REQUESTS,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=LAST_WORDS_SECONDS,
            )
        )
        self.url = ""

    async def __aenter__(self) -> "HttpServer":
        listener = _bound(self._listen)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        while not self._server.started:
            if self._task.done():
                await self._task
                raise OSError(f"the HTTP server at {self.url} ended while starting")
            await asyncio.sleep(0.005)
        return self

    async def wait(self) -> None:
        """Until the server ends, which it does not by itself."""
        await asyncio.shield(self._task)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def _bound(listen: str) -> socket.socket:
    """A listening socket. Raises OSError that says what to change."""
    host, port = host_and_port(listen)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise OSError(
            e.errno, f"the fleet API cannot listen on {listen} (CANOPY_CLOUDHUB_API_LISTEN): {e.strerror}"
        ) from e
    listener.listen(128)
    listener.setblocking(False)
    return listener
