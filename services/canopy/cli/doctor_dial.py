"""Whom `canopy doctor` finds at the addresses of a node: each dialled for 2 s at most, all side by side.

A connection ends after its handshake; what is asked are roots, and the leaf whether it has its link.
"""

import asyncio
import json
import ssl
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

from canopy.bus import AskFailed, Bus, Connection
from canopy.bus.leaf import linked as leaf_linked
from canopy.cli.doctor_facts import Dialled
from canopy.contracts import admin as words
from canopy.identity import joinroot
from canopy.identity.admin import AdminAway, ask
from canopy.identity.identity import Identity
from canopy.identity.ids import SpiffeId
from canopy.identity.joining_http import JoinRefused, NotTheEndpoint, Unreachable, talk
from canopy.identity.joining_words import BUNDLE, BadWords, BundleAnswer
from canopy.identity.joinstate import JoinState
from canopy.identity.sources import FileSource
from canopy.identity.svid import BadSvid
from canopy.identity.tls import client_context
from canopy.runtime.telemetry import Telemetry

DIAL_SECONDS = 2.0
REFUSAL_SECONDS = 0.3
"""With TLS 1.3 who listens says no to our certificate only after the handshake."""
INFO_BYTES = 64 * 1024
EDGEHUB = "edgehub"
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - names that mean every address


async def join_endpoint(state: JoinState, url: str) -> Dialled:
    """Does it answer under the join root, and what time has it?"""

    async def dial() -> float | None:
        async with talk(url, joinroot.client_context(state.root_pem)) as spoken:
            await spoken.get(BUNDLE, BundleAnswer)
            return _ahead(spoken.date)

    return await _dialled(url, dial)


async def nats(address: str, shown: Identity, expected: SpiffeId) -> Dialled:
    """A NATS server: it says INFO, then TLS begins."""

    async def dial() -> None:
        reader, writer = await asyncio.open_connection(*_place(address), limit=INFO_BYTES)
        try:
            info = await reader.readline()
            if not info.startswith(b"INFO ") or not json.loads(info[5:]).get("tls_required"):
                raise Stranger("who answers is no NATS server with TLS")
            await writer.start_tls(client_context(shown, {expected}))
            await _not_refused(reader)
        finally:
            writer.transport.abort()

    return await _dialled(address, dial)


async def mqtt(address: str, shown: Identity, expected: SpiffeId) -> Dialled:
    """TLS from the first byte."""

    async def dial() -> None:
        reader, writer = await asyncio.open_connection(*_place(address), ssl=client_context(shown, {expected}))
        try:
            await _not_refused(reader)
        finally:
            writer.transport.abort()

    return await _dialled(address, dial)


async def linked(address: str, shown: Path, expected: SpiffeId) -> bool | None:
    """Whether the leaf has its connection to the hub, as it tells EdgeHub, whose identity is in `shown`."""
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            url, source = f"nats://{address}", FileSource(shown)
            connection = await Connection.open(url, name="doctor", identity=source, expected=frozenset({expected}))
            try:
                bus = Bus(connection, EDGEHUB, Telemetry(EDGEHUB, enabled=False))
                await bus.open()
                return await leaf_linked(bus)
            finally:
                await connection.close(False)
    except (TimeoutError, OSError, AskFailed):
        return None


async def admin(socket: Path) -> Dialled:

    async def dial() -> None:
        answer = await ask(socket, words.BundleAsk(), DIAL_SECONDS)
        if answer.verdict != words.OK:
            raise Stranger(answer.reason or answer.verdict)

    return await _dialled(str(socket), dial)


class Stranger(Exception):
    """Somebody answers, but not as who was meant; the text says how."""


async def _dialled(where: str, dial: Callable[[], Awaitable[float | None]]) -> Dialled:
    try:
        async with asyncio.timeout(DIAL_SECONDS):
            return Dialled(where, ahead_seconds=await dial())
    except TimeoutError:
        return Dialled(where, f"no answer within {DIAL_SECONDS:g} s")
    except (ssl.SSLError, Stranger, NotTheEndpoint, BadWords) as e:
        return Dialled(where, _words(e), stranger=True)
    except (OSError, EOFError, ValueError, BadSvid, Unreachable, JoinRefused, AdminAway) as e:
        return Dialled(where, _words(e).removeprefix(f"{where}: ").removeprefix(f"{where} does not answer: "))


async def _not_refused(reader: asyncio.StreamReader) -> None:
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            ended = not await reader.read(1)
    except TimeoutError:
        return
    if ended:
        raise Stranger("it ends the connection after TLS: does it believe our certificate?")


def _words(e: Exception) -> str:
    if message := getattr(e, "verify_message", ""):
        return f"its certificate is not believed: {message}"
    return str(e) or type(e).__name__


def _place(address: str) -> tuple[str, int]:
    parts = urlsplit(f"//{address}")
    host = parts.hostname or ""
    return ANY.get(host, host), parts.port or 0


def _ahead(date: str) -> float | None:
    """How far this machine's clock is ahead of an HTTP Date, in s, which has whole ones."""
    try:
        return time.time() - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError):
        return None
