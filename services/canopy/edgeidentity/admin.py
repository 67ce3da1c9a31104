"""The admin socket: a unix socket for root and for this process's own user on this machine, one ask a connection.

`unit` opens it, `admin_desk` decides. The client is `canopy.identity.admin`.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import msgspec

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer, AdminAsk
from canopy.edgeidentity.admin_peer import Peer, peer_of
from canopy.identity.admin import short
from canopy.identity.private import private_folder
from canopy.runtime.audit import AuditLog

log = logging.getLogger("canopy.edgeidentity")
ASK_SECONDS, ANSWER_SECONDS = 5.0, 10.0
MOST_CONNECTIONS = 16
Handler = Callable[[AdminAsk, Peer], Awaitable[AdminAnswer]]


class AdminSocket:
    """`async with AdminSocket(path, desk.handle, audit):` serves until the block ends."""

    def __init__(self, path: Path, handle: Handler, audit: AuditLog) -> None:
        self._path, self._handle, self._audit = path, handle, audit
        self._talking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "AdminSocket":
        self._server = await asyncio.start_unix_server(self._talk, sock=_bound(self._path), limit=words.MOST_LINE_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._talking) >= MOST_CONNECTIONS:
            return writer.close()
        self._talking.add(task)
        try:
            with suppress(OSError, TimeoutError):
                answer = await self._answer(reader, writer)
                async with asyncio.timeout(ASK_SECONDS):
                    writer.write(words.encode(answer))
                    await writer.drain()
        finally:
            self._talking.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AdminAnswer:
        peer = peer_of(writer.get_extra_info("socket"))
        if not peer.may_ask:
            where = f"pid {peer.pid} uid {peer.uid} gid {peer.gid}"
            self._audit.record("admin", outcome="refused", who=str(peer), reason="not root, not our user", where=where)
            return AdminAnswer(verdict=words.REFUSED, reason=f"{peer} may not ask here: use sudo")
        async with asyncio.timeout(ASK_SECONDS):
            try:
                ask = words.read_ask(await reader.readline())
            except (ValueError, msgspec.MsgspecError) as e:
                return AdminAnswer(verdict=words.REFUSED, reason=f"an ask that cannot be read: {str(e)[:200]}")
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._handle(ask, peer)


def _bound(path: Path) -> socket.socket:
    """A listening socket, for its owner from its first moment. Raises OSError."""
    private_folder(path.parent)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        with short(path) as name:
            listener.bind(name)
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.listen(MOST_CONNECTIONS)
    listener.setblocking(False)
    return listener
