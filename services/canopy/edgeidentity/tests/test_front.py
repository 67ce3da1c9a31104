"""Who the front lets in, and what it does with clients that never show who they are."""

import asyncio
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from canopy.contracts.wire import Name
from canopy.edgeidentity import device_tokens, front_connect, front_judge
from canopy.edgeidentity import front as module
from canopy.edgeidentity.front import Counts, Front
from canopy.edgeidentity.front_connect import Connect
from canopy.edgeidentity.front_judge import Admitted, Refused
from canopy.edgeidentity.provision_book import Given
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.identity.tls import client_context, server_context
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.metrics import Metrics
from canopy.testing.child import HOST
from canopy.testing.wait import until

TD, NODE, LAMP = "canopy.test", "edge-1", ("default", "lamp")
TOKEN, HASH = device_tokens.made(1, 5000, "root")
FLAGS = 0x02 | front_connect.USER | front_connect.PASSWORD


class Book:
    """One lamp."""

    def __init__(self, given: Given) -> None:
        self.given = given

    def of(self, name: Name) -> Given:
        return self.given if name == LAMP else Given()

    def identity(self, name: Name) -> SpiffeId:
        return ids.device(TD, NODE, *name)


def connect(user: str = "default/lamp", password: str = TOKEN, client: str = "c1") -> Connect:
    return Connect(FLAGS, 60, client, user, password.encode())


def judged(wanted: Connect, given: Given | None = None, now: int = 10) -> Admitted | Refused:
    return front_judge.by_token(wanted, Book(given or Given(token=HASH)), {LAMP, ("default", "fan")}, now)


def test_a_device_with_its_password_comes_in_as_itself_and_its_client_id_is_its_own() -> None:
    found = judged(connect())
    assert isinstance(found, Admitted)
    assert (found.who, found.id, found.until) == ("default/lamp", ids.device(TD, NODE, *LAMP), 5000)
    assert (found.connect.client, found.connect.user, found.connect.password) == ("default/lamp:c1", "", b"")


@pytest.mark.parametrize(
    ("wanted", "now", "who", "why"),
    [
        (connect(password="x"), 10, "default/lamp", "a wrong password"),
        (connect(password=""), 10, "default/lamp", "a wrong password"),
        (connect(), 5000, "default/lamp", "its password is over"),
        (connect(user="default/fan"), 10, "default/fan", "it has no password"),
        (connect(user="default/other"), 10, "", "no device of this node that may come in"),
        (connect(user="root\x1b[2J"), 10, "", "no device of this node that may come in"),
        (connect(user=""), 10, "", "no device of this node that may come in"),
    ],
)
def test_everybody_else_is_refused_and_a_strangers_words_go_nowhere(
    wanted: Connect, now: int, who: str, why: str
) -> None:
    assert judged(wanted, now=now) == Refused(who, why)


def test_on_the_plain_port_everybody_is_one() -> None:
    found = front_judge.plain(connect(user="default/lamp"), TD, NODE)
    assert (found.id, found.connect.user) == (ids.local(TD, NODE, "devices"), "")


def test_who_came_in_by_what_holds_no_more_is_known() -> None:
    book = Book(Given(token=HASH))
    found = front_judge.by_token(connect(), book, {LAMP}, 10)
    assert isinstance(found, Admitted) and front_judge.still(found, book)
    book.given = Given(token=HASH, not_after=7)
    assert front_judge.still(found, book), "a certificate beside it changes nothing"
    book.given = Given(token=device_tokens.made(1, 5000, "root")[1])
    assert not front_judge.still(found, book)
    book.given = Given(generation=1, token=HASH)
    assert not front_judge.still(found, book)


class Sink:
    """A gateway that answers each CONNECT and then echoes."""

    def __init__(self) -> None:
        self.said = bytearray()

    async def connect(self, id: SpiffeId) -> Any:
        return await asyncio.open_connection(HOST, self.port)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                self.said += data
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(talk, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        yield
        server.close()


class World:
    def __init__(self) -> None:
        self.metrics, self.audit, self.sink = Metrics(), AuditLog("edgeidentity"), Sink()
        counter = self.metrics.counter
        self.refused = counter("canopy_edgeidentity_front_refused_total")
        self.counts = Counts(
            self.metrics.gauge("canopy_edgeidentity_front_connections"),
            counter("canopy_edgeidentity_front_admitted_total"),
            self.refused,
        )
        self.book = Book(Given(token=HASH))

    @asynccontextmanager
    async def front(self, most: int = 10, tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
        def judge(wanted: Connect) -> Admitted | Refused:
            return front_judge.by_token(wanted, self.book, {LAMP}, 10)

        def still(admitted: Admitted) -> bool:
            return front_judge.still(admitted, self.book)

        gateway: Any = self.sink
        async with self.sink.listening():
            clock = FixedClock()
            front = Front("token", (HOST, 0), tls, judge, still, gateway, most, clock, self.audit, self.counts)
            async with front:
                yield front


class FixedClock(SystemClock):
    """The wall clock of the tests' tokens."""

    def now_ms(self) -> int:
        return 10


async def test_a_connection_is_carried_both_ways_and_ended_when_its_password_is_another() -> None:
    world = World()
    async with world.front() as front:
        reader, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(connect().encoded() + b"x" * 300_000)
        handed = connect(client="default/lamp:c1").without_credentials().encoded()
        async with asyncio.timeout(10):
            assert await reader.readexactly(len(handed) + 300_000) == handed + b"x" * 300_000
            await front.look(("default", "fan"))
            writer.write(b"y")
            assert await reader.readexactly(1) == b"y"
            world.book.given = Given(generation=1)
            await front.look(LAMP)
            assert await reader.read() == b""
        writer.close()
    assert [(r.what, r.outcome, r.who, r.where) for r in world.audit.waiting(9)] == [
        ("admission", "ok", "default/lamp", HOST)
    ]


async def test_the_end_of_a_client_brings_its_last_words_to_the_gateway() -> None:
    world = World()
    async with world.front() as front:
        _, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(connect().encoded() + b"bye")
        writer.close()
        await until(lambda: world.sink.said.endswith(b"bye"))
        await until(lambda: world.counts.now == 0)


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (connect(password="no").encoded(), front_connect.refusal(front_connect.REFUSED_USER)),
        (b"GET / HTTP/1.1\r\n\r\n", b""),
        (b"\x10\xff\xff\xff\x7f", b""),
        (b"", b""),
    ],
)
async def test_who_is_not_let_in_gets_mqtts_answer_or_none(said: bytes, answer: bytes) -> None:
    world = World()
    async with world.front() as front:
        reader, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(said)
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == answer
        writer.close()
    assert world.sink.said == b""


async def test_the_silent_are_ended_and_one_address_takes_no_place_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(module, "MOST_WAITING_OF_ONE", 3)
    world = World()
    async with world.front() as front:
        silent = [await asyncio.open_connection(HOST, front.port) for _ in range(4)]
        other = await asyncio.open_connection(HOST, front.port, local_addr=("127.0.0.2", 0))
        other[1].write(connect().encoded())
        async with asyncio.timeout(5):
            assert await other[0].read(1)
            assert [await reader.read() for reader, _ in silent] == [b""] * 4
        for _, writer in (*silent, other):
            writer.close()
    assert world.refused.value(why="too many") == 1


async def test_noise_at_the_tls_port_is_ended_and_the_next_client_is_served_also_much_at_once(tmp_path: Path) -> None:
    authority, id, key = Builtin(tmp_path, f"{NODE}.{TD}"), ids.local(TD, NODE, "leaf"), new_key()
    minted = await authority.mint(make_csr(key, id), id, ttl_seconds=600)
    identity = Identity(Svid.of(minted.chain_pem, key), await authority.bundle())
    world, rng = World(), random.Random(5)
    async with world.front(tls=server_context(identity, None)) as front:
        for size in (1, 20, 400, 20_000):
            _, writer = await asyncio.open_connection(HOST, front.port)
            writer.write(rng.randbytes(size))
            writer.close()
        tls = client_context(identity.bundle, frozenset({id}))
        reader, writer = await asyncio.open_connection(HOST, front.port, ssl=tls, server_hostname=HOST)
        body = rng.randbytes(1_000_000)  # more than every buffer: reading has to pause what it reads from
        writer.write(connect().encoded() + body)
        async with asyncio.timeout(20):
            await until(lambda: world.counts.now == 1)
            handed = connect(client="default/lamp:c1").without_credentials().encoded()
            assert await reader.readexactly(len(handed) + len(body)) == handed + body
        writer.close()
    assert (world.refused.value(why="no CONNECT"), world.refused.value(why="no TLS") > 0) == (0, True)


async def test_no_more_come_in_than_a_setting_says() -> None:
    world = World()
    async with world.front(most=1) as front:
        one = await asyncio.open_connection(HOST, front.port)
        one[1].write(connect().encoded())
        await until(lambda: world.counts.now == 1)
        reader, writer = await asyncio.open_connection(HOST, front.port)
        writer.write(connect().encoded())
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionError):
                assert await reader.read() == b""
                raise ConnectionError
        one[1].close()
        writer.close()
