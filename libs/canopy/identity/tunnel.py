"""A way for gRPC through TLS that judges by SPIFFE ID: a private unix socket here, our own context on the other side.

gRPC compares a server's DNS names only, and a SPIRE server has none: it is known by its SPIFFE ID. `spire` calls it.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from canopy.identity.tls import Rotating

CONNECT_SECONDS = 5.0
MOST_CONNECTIONS = 16
CHUNK_BYTES = 64 * 1024


class Tunnel:
    """Open it, and whoever connects to `socket` (only this user can) speaks with `host:port` as `context` is."""

    def __init__(self, host: str, port: int, context: Rotating) -> None:
        self._host, self._port, self._context = host, port, context
        self._folder = tempfile.TemporaryDirectory(prefix="canopy-tunnel-")  # 0700
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.fault = ""
        """Why the last connection could not be made, in words; empty when it could."""

    @property
    def socket(self) -> Path:
        return Path(self._folder.name) / "tunnel"

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._served, self.socket)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._folder.cleanup()

    def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= MOST_CONNECTIONS:
            writer.close()
            return
        task = asyncio.ensure_future(self._joined(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)
        task.add_done_callback(lambda _: writer.close())

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                there = await asyncio.open_connection(
                    self._host, self._port, ssl=self._context, server_hostname="", limit=CHUNK_BYTES
                )
        except (OSError, TimeoutError) as e:
            self.fault = str(e) or f"no connection to {self._host}:{self._port} within {CONNECT_SECONDS:g} s"
            return
        self.fault = ""
        try:
            await _first_of(_carried(reader, there[1]), _carried(there[0], writer))
        finally:
            there[1].transport.abort()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one way ends: HTTP/2 needs both."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
