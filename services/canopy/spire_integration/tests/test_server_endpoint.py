"""The endpoint over real TLS on loopback, with streams in memory: what strangers may send, and what they get."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from canopy.contracts.identity_wire import TokenAsk
from canopy.identity import joining_words as words
from canopy.identity import joinroot
from canopy.identity.builtin import Builtin
from canopy.identity.join import Credential, join
from canopy.identity.joining_http import JoinRefused, NotTheEndpoint, Unreachable
from canopy.identity.joining_words import Token, parse
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.metrics import Counter
from canopy.spire_integration.adapters.door import Bounds, Door
from canopy.spire_integration.adapters.http import Endpoint
from canopy.spire_integration.joining import Joining
from canopy.spire_integration.joining_limits import Limits
from canopy.spire_integration.joining_proofs import Rules
from canopy.spire_integration.tests.joining_world import TD, Machine, Memory
from canopy.testing.wait import until

pytestmark = pytest.mark.server
CLOCK = SystemClock()
ROOT = joinroot.new(TD, CLOCK.now_ms() / 1000)
CONTEXT = joinroot.server_context(joinroot.endpoint(ROOT, TD, CLOCK.now_ms() / 1000))
CLIENT = joinroot.client_context(ROOT.certificate_pem)


def head(path: str, length: int = 0, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


class Place:
    """An endpoint that is up."""

    def __init__(self, folder: Path, limits: Limits, bounds: Bounds) -> None:
        self.nodes, self.asked = Memory(), Counter("asked_total", "", "counter")
        authority = Builtin(folder / "authority", TD)
        streams = (self.nodes, Memory())
        audit = AuditLog("spire_integration").record
        self.joining = Joining(Rules(TD, 60, 600), ROOT, authority, streams, audit, CLOCK, lambda: self.door.url)
        app = Endpoint(self.joining, limits, CLOCK, self.asked).app()
        self.door = Door(app, CONTEXT, "127.0.0.1:0", bounds)

    async def token(self, node: str = "edge-1") -> Token:
        return parse((await self.joining.token(TokenAsk(node=node))).token)

    async def open(self, tls: bool = True) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int(self.door.url.rpartition(":")[2])
        return await asyncio.open_connection("127.0.0.1", port, ssl=CLIENT if tls else None)

    async def sent(self, data: bytes, tls: bool = True) -> bytes:
        """What comes back until the end; nothing where it is cut off, in the handshake too."""
        try:
            reader, writer = await self.open(tls)
        except OSError:
            return b""
        try:
            writer.write(data)
            await writer.drain()
            async with asyncio.timeout(10):
                return await reader.read()
        except OSError:
            return b""
        finally:
            writer.transport.abort()

    async def posted(self, path: str, body: bytes, *headers: str) -> tuple[int, Any]:
        answer = await self.sent(head(path, len(body), *headers) + body)
        return int(answer.split(b" ")[1]), msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])


@asynccontextmanager
async def place(folder: Path, limits: Limits | None = None, **bounds: Any) -> AsyncIterator[Place]:
    here = Place(folder, limits or Limits(1000, 10_000), Bounds(**bounds))
    async with here.door:
        yield here


def way_in(token: Token) -> dict[str, Any]:
    credential = Credential(token_id=token.id, secret=token.secret)
    return {"node": token.node, "urls": (token.url,), "fingerprint": token.root, "credential": credential}


async def test_a_machine_joins_step_by_step_and_a_second_one_is_told_why_not(tmp_path: Path) -> None:
    steps: list[str] = []
    async with place(tmp_path) as here:
        token = await here.token()
        identity = await join(tmp_path / "one", say=lambda step, _: steps.append(step), **way_in(token))
        assert str(identity.svid.id) == f"spiffe://{TD}/node/edge-1"
        assert steps == ["endpoint", "key", "bundle", "joined"]
        assert {f.stat().st_mode & 0o777 for f in (tmp_path / "one").iterdir()} == {0o600}
        with pytest.raises(JoinRefused, match="used already") as refused:
            await join(tmp_path / "two", **way_in(token))
        assert (refused.value.error, refused.value.passes) == ("used", False)
        before = {f.name: f.read_bytes() for f in (tmp_path / "one").iterdir()}
        with pytest.raises(JoinRefused, match="no such join token"):
            await join(tmp_path / "one", **way_in(replace(token, secret="wrong")))
        assert {f.name: f.read_bytes() for f in (tmp_path / "one").iterdir()} == before  # it stays what it is
        with pytest.raises(JoinRefused, match="for the node edge-1, not for edge-2"):
            await join(tmp_path / "three", **way_in(token) | {"node": "edge-2"})


async def test_another_join_root_is_refused_before_the_secret_is_said(tmp_path: Path) -> None:
    other = joinroot.new(TD, CLOCK.now_ms() / 1000)
    seen, shown = list[bytes](), list[bytes]()

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        body = shown[-1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    context = joinroot.server_context(joinroot.endpoint(other, TD, CLOCK.now_ms() / 1000))
    listener = await asyncio.start_server(impostor, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    token = Token("edge-1", "id", "secret", ROOT.fingerprint, url)
    try:
        for said in (other, ROOT):  # its own root, and the true one, whose key it has not
            shown.append(said.certificate_pem)
            with pytest.raises(NotTheEndpoint):
                await join(tmp_path / "node", **way_in(token))
    finally:
        listener.close()
    assert [request.split(b" ")[1] for request in seen] == [b"/v1/root", b"/v1/root"]
    with pytest.raises(Unreachable):
        await join(tmp_path / "node", **way_in(token))


@pytest.mark.parametrize(
    ("path", "body", "code", "error"),
    [
        (words.JOIN, b"", 400, "words"),
        (words.JOIN, b"{}", 400, "words"),
        (words.JOIN, b"[" * 16_000, 400, "words"),
        (words.JOIN, b"\xff\xfe", 400, "words"),
        (words.JOIN, b"A" * 16_385, 413, "length"),
        (words.RENEW, b'{"node": 7}', 400, "words"),
        (words.RENEW, b'{"node":"../x","nonce":"","csr":"","signature":""}', 400, "csr"),
        ("/docs", b"", 404, "path"),
        ("/openapi.json", b"", 404, "path"),
        ("/v1/join/", b"", 404, "path"),
        (words.BUNDLE, b"", 405, "path"),
    ],
)
async def test_nonsense_is_refused_in_one_shape(tmp_path: Path, path: str, body: bytes, code: int, error: str) -> None:
    async with place(tmp_path) as here:
        status, found = await here.posted(path, body)
        assert (status, found["code"], found["error"]) == (code, code, error)
        assert not here.nodes.held


async def test_a_body_of_unknown_length_and_headers_without_end_are_refused(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        chunked = b"POST /v1/join HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
        assert (await here.sent(chunked)).startswith(b"HTTP/1.1 413")
        endless = b"GET /v1/bundle HTTP/1.1\r\n" + b"X: " + b"a" * 60_000
        assert (await here.sent(endless)).startswith(b"HTTP/1.1 400")
        assert await here.sent(b"GET /v1/bundle HTTP/1.1\r\nHost: x\r\n\r\n", tls=False) == b""


async def test_who_is_slow_or_says_half_is_cut_off_and_others_are_served(tmp_path: Path) -> None:
    async with place(tmp_path, seconds=0.3, connections=8) as here:
        half = [b"", b"POST", b"POST /v1/join HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"]
        slow = [here.sent(data, tls) for data in half for tls in (True, False)]
        assert {answer[:12] for answer in await asyncio.gather(*slow)} <= {b"", b"HTTP/1.1 400"}
        await until(lambda: here.door.connections == 0)

        async def served() -> bool:
            return b" 200 OK" in await here.sent(head(words.NONCE))

        await until(served)  # who is not slow; on a busy machine that may take several times


async def test_one_address_has_its_share_of_connections_and_its_pace(tmp_path: Path) -> None:
    async with place(tmp_path, Limits(0.01, 3), per_address=4, connections=8) as here:
        held = [await here.open() for _ in range(4)]
        with pytest.raises((OSError, EOFError)):
            await here.open()
        assert here.door.connections == 4
        for _, writer in held:
            writer.transport.abort()
        await until(lambda: here.door.connections == 0)
        statuses = [(await here.posted(words.NONCE, b""))[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]
        assert here.asked.value(what="nonce", outcome="pace") == 1


async def test_handshakes_have_a_pace_of_an_address_and_of_all(tmp_path: Path) -> None:
    async with place(tmp_path, address_burst=3, address_per_second=0.1) as here:
        statuses = [(await here.posted(words.NONCE, b""))[0] for _ in range(3)]
        assert statuses == [200] * 3
        with pytest.raises((OSError, EOFError)):
            await here.open()
    async with place(tmp_path / "all", per_second=5) as here:
        began = asyncio.get_running_loop().time()
        for _ in range(7):
            await here.posted(words.NONCE, b"")
        assert asyncio.get_running_loop().time() - began > 0.3


async def test_a_flood_of_nonsense_lets_nobody_in_and_leaves_nothing_behind(tmp_path: Path) -> None:
    rng, machine = random.Random(7), Machine()
    async with place(tmp_path, connections=32) as here:
        good = msgspec.json.encode(machine.ask(Token("edge-1", "ab", "cd", "")))
        head = b"POST /v1/join HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"

        def piece() -> bytes:
            body = bytearray(good)
            for _ in range(rng.randrange(1, 6)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            whole = head % len(body) + bytes(body)
            return rng.choice((whole, rng.randbytes(500), whole[: rng.randrange(len(whole))] + b"\r\n\r\n"))

        slots = asyncio.Semaphore(32)

        async def one() -> None:
            async with slots:
                try:
                    reader, writer = await here.open()
                except (OSError, EOFError):
                    return
                try:
                    writer.write(piece())
                    async with asyncio.timeout(0.2):
                        await reader.read()
                except (OSError, TimeoutError):
                    pass
                finally:
                    writer.transport.abort()

        await asyncio.gather(*(one() for _ in range(100)))
        await until(lambda: here.door.connections == 0)
        assert not here.nodes.held
        assert here.asked.value(what="join", outcome="bug") == 0
        token = await here.token()
        await join(tmp_path / "node", **way_in(token))  # and it still works
