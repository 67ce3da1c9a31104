"""A node's end of the join endpoint: HTTPS over asyncio streams, judged by the join root. `join` calls it.

An edge has no HTTP library; what is spoken here is one request after the other over one connection, in JSON.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from canopy.identity import joining_words as words
from canopy.identity import joinroot
from canopy.identity.joining_words import ANSWER_BYTES, BadWords, Refusal
from canopy.identity.svid import BadSvid

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 20.0
HEAD_BYTES = 8192
M = TypeVar("M")


class Unreachable(Exception):
    """No endpoint answers now: try again. The text says where and what."""


class NotTheEndpoint(Exception):
    """Something answers there that the join root has not signed: the text says which root was expected."""


class JoinRefused(Exception):
    """The endpoint said no. `error` is its word (used, other-node, late, unknown, revoked, ...)."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.code, self.error = refusal.code, refusal.error
        self.retry_after_seconds = refusal.retry_after_seconds

    @property
    def passes(self) -> bool:
        """Whether the same ask may be answered later."""
        return self.code in (429, 500, 502, 503)


class BadUrl(ValueError):
    """No address of an endpoint."""


def urls_of(text: str) -> tuple[str, ...]:
    """`https://host:port`, several with commas. Raises BadUrl."""
    found = tuple(one.strip().rstrip("/") for one in text.split(",") if one.strip())
    for one in found:
        try:
            parts = urlsplit(one)
            right = parts.scheme == "https" and parts.hostname and not parts.path and (parts.port or 443) > 0
        except ValueError:
            right = False
        if not right:
            raise BadUrl(f"{one[:200]!r} is no join endpoint: write https://HOST:PORT")
    if not found:
        raise BadUrl("where is the join endpoint? write https://HOST:PORT")
    return found


class Talk:
    """One connection to an endpoint. Raises Unreachable, JoinRefused, BadWords."""

    def __init__(self, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._url, self._reader, self._writer = url, reader, writer
        self.date = ""
        """The time that the last answer bore (HTTP's Date)."""

    async def get(self, path: str, kind: type[M]) -> M:
        return words.read(await self.raw("GET", path), kind)

    async def post(self, path: str, kind: type[M], ask: msgspec.Struct | None = None) -> M:
        return words.read(await self.raw("POST", path, msgspec.json.encode(ask) if ask else b""), kind)

    async def raw(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The body of an answer that is no refusal."""
        head = f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(self._url).netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._writer.write(head.encode() + body)
                await self._writer.drain()
                status, answer = await self._answer()
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError) as e:
            raise Unreachable(f"{self._url} does not answer: {_what(e)}") from None
        if status != 200:
            raise JoinRefused(_refusal(status, answer))
        return answer

    async def _answer(self) -> tuple[int, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1]) if head[0].startswith("HTTP/1.1 ") else 0
        lengths = [line.partition(":")[2] for line in head if line.lower().startswith("content-length:")]
        self.date = next((line.partition(":")[2].strip() for line in head if line.lower().startswith("date:")), "")
        if not status or len(lengths) != 1 or not 0 <= int(lengths[0]) <= ANSWER_BYTES:
            raise ValueError("no HTTP/1.1 answer with a length")
        return status, await self._reader.readexactly(int(lengths[0]))


@asynccontextmanager
async def talk(url: str, context: ssl.SSLContext) -> AsyncIterator[Talk]:
    """Raises Unreachable, NotTheEndpoint."""
    parts = urlsplit(url)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port or 443, ssl=context, limit=HEAD_BYTES, ssl_shutdown_timeout=1.0
            )
    except ssl.SSLCertVerificationError as e:
        reason = e.verify_message
        hint = " (is this machine's clock right?)" if "expired" in reason or "not yet valid" in reason else ""
        raise NotTheEndpoint(f"{url} is not the join endpoint that is known here: {reason}{hint}") from None
    except (OSError, TimeoutError) as e:
        raise Unreachable(f"{url} does not answer: {_what(e)}") from None
    try:
        yield Talk(url, reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def talk_to_any(urls: Sequence[str], root_pem: bytes) -> AsyncIterator[Talk]:
    """The first of `urls` that answers under the join root. Raises Unreachable, NotTheEndpoint."""
    context, failed = joinroot.client_context(root_pem), list[Exception]()
    async with AsyncExitStack() as stack:
        for url in urls:
            try:
                found = await stack.enter_async_context(talk(url, context))
            except (Unreachable, NotTheEndpoint) as e:
                failed.append(e)
                continue
            yield found
            return
    kind = NotTheEndpoint if failed and all(isinstance(e, NotTheEndpoint) for e in failed) else Unreachable
    raise kind("; ".join(str(e) for e in failed) or "no endpoint is named")


async def root_of(urls: Sequence[str], fingerprint: str) -> bytes:
    """The join root whose SHA-256 is known, from whoever says it. Raises Unreachable, NotTheEndpoint, JoinRefused."""
    unreached: Unreachable | None = None
    for url in urls:
        try:
            async with talk(url, joinroot.unverified_context()) as asked:
                pem = await asked.raw("GET", words.ROOT)
        except Unreachable as e:
            unreached = e
            continue
        try:
            shown = joinroot.fingerprint(pem)
        except BadSvid as e:
            raise NotTheEndpoint(f"{url} is no join endpoint: {e}") from None
        if shown != fingerprint:
            raise NotTheEndpoint(
                f"{url} shows the join root {shown}, not {fingerprint}, which is known here: another fleet's endpoint, "
                "somebody in between, or a join root that was made anew (then a new token is needed)"
            )
        return pem
    raise unreached or Unreachable("no endpoint is named")


def _refusal(status: int, answer: bytes) -> Refusal:
    try:
        return words.read(answer, Refusal)
    except BadWords:
        return Refusal(code=status, error="http", reason=f"HTTP {status}: this does not look like a join endpoint")


def _what(e: Exception) -> str:
    return str(e) or type(e).__name__
