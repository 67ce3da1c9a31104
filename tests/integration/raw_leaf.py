"""A leaf node that is no nats-server: it says on the wire whatever it is told, and keeps to no right.

nats-server's own leaves hold back what the hub told them not to send; who attacks does not.
"""

import asyncio
import contextlib
import json
import ssl
from pathlib import Path

from canopy.testing.child import HOST

ADMITTED_SECONDS = 10.0


class NotAdmitted(Exception):
    """The hub ended it before it was in; the text is the hub's, or TLS's."""


class RawLeaf:
    """`async with RawLeaf.open(...)`. `messages` are (subject, reply, body), `errors` what the hub said against it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.messages: list[tuple[str, str, bytes]] = []
        self.errors: list[str] = []
        self.closed = asyncio.Event()
        self._pongs = asyncio.Semaphore(0)
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, port: int, context: ssl.SSLContext, name: str) -> "RawLeaf":
        """Let in by the hub at its leaf port. Raises NotAdmitted."""
        reader, writer = await asyncio.open_connection(HOST, port)
        self = cls(reader, writer)
        try:
            async with asyncio.timeout(ADMITTED_SECONDS):
                await reader.readline()  # INFO: TLS is required
                await writer.start_tls(context, server_hostname="localhost")
                self._send("CONNECT " + json.dumps({"tls_required": True, "name": name, "headers": True}))
                self._task = asyncio.create_task(self._read())
                if not await self.pinged():
                    raise NotAdmitted("; ".join(self.errors) or "closed")
        except (OSError, TimeoutError, NotAdmitted) as e:
            await self.close()
            raise NotAdmitted(str(e) or type(e).__name__) from None
        return self

    async def __aenter__(self) -> "RawLeaf":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def say(self, subject: str, body: bytes, reply: str = "") -> None:
        self._send(f"LMSG {subject} {reply + ' ' if reply else ''}{len(body)}\r\n".encode() + body)

    def subscribe(self, subject: str) -> None:
        self._send(f"LS+ {subject}")

    async def pinged(self) -> bool:
        """Until the hub has taken all that was said; False if it ended the connection instead."""
        self._send("PING")
        pong, closed = asyncio.create_task(self._pongs.acquire()), asyncio.create_task(self.closed.wait())
        done, waiting = await asyncio.wait((pong, closed), timeout=10, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return pong in done

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._writer.transport.abort()

    def _send(self, line: str | bytes) -> None:
        self._writer.write((line.encode() if isinstance(line, str) else line) + b"\r\n")

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await self._reader.readline():
                await self._take(line.decode().strip())
        self.closed.set()

    async def _take(self, line: str) -> None:
        verb, *words = line.split(" ")
        if verb in ("LMSG", "HMSG"):
            body = await self._reader.readexactly(int(words[-1]) + 2)
            about = words[1 : -1 if verb == "LMSG" else -2]
            self.messages.append((words[0], about[-1] if about else "", body[:-2]))
        elif verb == "PING":
            self._send("PONG")
        elif verb == "PONG":
            self._pongs.release()
        elif verb == "-ERR":
            self.errors.append(line)


def context_of(identity: Path, roots: Path) -> ssl.SSLContext:
    """By the certificate in the folder `identity`; the hub is believed by the file `roots`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(roots)
    context.load_cert_chain(identity / "svid.pem")
    return context
