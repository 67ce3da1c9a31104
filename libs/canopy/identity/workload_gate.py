"""The socket that workloads connect to. gRPC does not say who is at the other end: the kernel does, so that each
connection is looked at here and carried to gRPC's own socket under a name that only we know. Linux only.
"""

import asyncio
import logging
import os
import secrets
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from canopy.identity.admin import short
from canopy.identity.workload_rules import Workload

log = logging.getLogger("canopy.identity.workload_server")
MOST_CONNECTIONS, MOST_OF_ONE = 128, 32
"""Connections in all, and of one user, so that none keeps the others out."""
CHUNK_BYTES = 16 * 1024
NAME = "canopy-workload-"
PEER = f"unix-abstract:{NAME}"
"""How gRPC calls a connection of ours."""


class Gate:
    """`async with Gate(path, inner, seen):` carries connections from `path` to gRPC's socket `inner`."""

    def __init__(self, path: Path, inner: Path, attest: Callable[[socket.socket], Workload] | None = None) -> None:
        self._path, self._inner, self._attest = path, inner, attest or workload_of
        self._known: dict[str, Workload] = {}
        self._tasks: dict[asyncio.Task[None], int] = {}

    def who(self, peer: str) -> Workload | None:
        """The workload behind what gRPC calls `peer`; None for what did not come through here."""
        return self._known.get(peer.removeprefix(PEER)) if peer.startswith(PEER) else None

    async def __aenter__(self) -> "Gate":
        self._server = await asyncio.start_unix_server(self._talk, sock=_bound(self._path), limit=4 * CHUNK_BYTES)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        try:
            one = self._attest(writer.get_extra_info("socket"))
        except OSError as e:
            log.debug("a workload that has gone: %s", e)
            return writer.close()
        if task is None or not self._room(one.uid):
            log.warning("too many connections: %s", one)
            return writer.close()
        self._tasks[task] = one.uid
        name = secrets.token_hex(16)
        self._known[name] = one
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer, name)
        finally:
            del self._known[name], self._tasks[task]
            writer.close()

    def _room(self, uid: int) -> bool:
        return len(self._tasks) < MOST_CONNECTIONS and list(self._tasks.values()).count(uid) < MOST_OF_ONE

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str) -> None:
        inside = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        inside.setblocking(False)
        inside.bind(f"\0{NAME}{name}")
        with short(self._inner) as path:
            await asyncio.get_running_loop().sock_connect(inside, path)
        to, back = await asyncio.open_unix_connection(sock=inside, limit=4 * CHUNK_BYTES)
        ways = [asyncio.ensure_future(_pump(reader, back)), asyncio.ensure_future(_pump(to, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            back.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


def workload_of(sock: socket.socket) -> Workload:
    """Who connected: uid, gid, pid by the kernel's word, and the program of that pid. Raises OSError."""
    pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return Workload(pid, uid, gid, _program(pid, uid) if pid > 0 else "")


def _program(pid: int, uid: int) -> str:
    """What /proc says that it runs; "" where we may not see it. The folder is held open, so that what is read is all
    of one process: one that took the number of another meanwhile is not taken for it unless it is the same user's."""
    try:
        folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        program = os.readlink("exe", dir_fd=folder)
        return program if os.stat("exe", dir_fd=folder) and os.fstat(folder).st_uid in (uid, 0) else ""
    except OSError:
        return ""
    finally:
        os.close(folder)


def _bound(path: Path) -> socket.socket:
    """A listening socket that everybody may connect to. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short(path) as name:
            listener.bind(name)
        path.chmod(0o666)
    except OSError:
        listener.close()
        raise
    listener.listen(MOST_CONNECTIONS)
    listener.setblocking(False)
    return listener
