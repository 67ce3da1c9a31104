"""The front: MQTT for devices that cannot have a certificate. It looks at CONNECT, and then only carries bytes between
the client and the leaf's gateway, to which it is that device.

`unit` opens one with TLS, where devices show their password, and one without on loopback if a setting names its port.
"""

import asyncio
import logging
import ssl
from collections import Counter as Tally
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

from canopy.contracts.wire import Name
from canopy.edgeidentity import front_connect
from canopy.edgeidentity.front_connect import BadConnect, Connect
from canopy.edgeidentity.front_gateway import LIMIT_BYTES, Gateway, Streams
from canopy.edgeidentity.front_judge import Admitted, Refused
from canopy.identity.authority import AuthorityAway, AuthorityRefused
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Counter, Gauge

log = logging.getLogger("canopy.edgeidentity")
CONNECT_SECONDS = 10.0
"""For the handshake and CONNECT."""
MOST_WAITING, MOST_WAITING_OF_ONE = 128, 32
"""Clients that have not shown who they are, in all and from one address."""
CHUNK_BYTES = 32 * 1024
LAST_SECONDS = 2.0
Judge = Callable[[Connect], Admitted | Refused]
Still = Callable[[Admitted], bool]


class Counts:
    """What the fronts of a process count together."""

    def __init__(self, connections: Gauge, admitted: Counter, refused: Counter) -> None:
        self.connections, self.admitted, self.refused = connections, admitted, refused
        self.now = 0

    def moved(self, by: int) -> None:
        self.now += by
        self.connections.set(float(self.now))


class Front:
    """`async with Front(...) as front:` listens at `front.port`. `how` names it in the audit and in metrics."""

    def __init__(
        self,
        how: str,
        listen: tuple[str, int],
        tls: ssl.SSLContext | None,
        judge: Judge,
        still: Still,
        gateway: Gateway,
        most: int,
        clock: Clock,
        audit: AuditLog,
        counts: Counts,
    ) -> None:
        self._how, self.host, self.port, self._tls = how, *listen, tls
        self._judge, self._still, self._gateway, self._most = judge, still, gateway, most
        self._clock, self._audit, self._counts = clock, audit, counts
        self._waiting, self._tasks = Tally[str](), set[asyncio.Task[None]]()
        self._inside: dict[asyncio.Task[None], Admitted] = {}

    async def __aenter__(self) -> "Front":
        self._server = await asyncio.start_server(self._talk, self.host, self.port, limit=LIMIT_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await _ended(self._tasks)

    async def look(self, name: Name) -> None:
        """Something of a device is another: who came in by what holds no more is thrown out."""
        await _ended(t for t, a in self._inside.items() if a.name == name and not self._still(a))

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, where = asyncio.current_task(), _address(writer)
        if task is None or not self._room(where):
            self._counts.refused.add(why="too many")
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            with suppress(OSError, TimeoutError, asyncio.CancelledError):
                await self._serve(task, (reader, writer), where)
        finally:
            self._tasks.discard(task)
            await _closed(writer)

    def _room(self, where: str) -> bool:
        waiting = self._waiting.total() < MOST_WAITING and self._waiting[where] < MOST_WAITING_OF_ONE
        return waiting and len(self._tasks) < self._most

    async def _serve(self, task: "asyncio.Task[None]", client: Streams, where: str) -> None:
        self._waiting[where] += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._secured(client)
                admitted = await self._admitted(client, where)
        finally:
            self._waiting -= Tally({where: 1})
        if admitted is None:
            return
        gateway = await self._opened(client, admitted)
        if gateway is None:
            return
        self._inside[task] = admitted
        self._counts.moved(1)
        try:
            async with asyncio.timeout(self._left(admitted)):
                await _carried(client, gateway)
        finally:
            del self._inside[task]
            self._counts.moved(-1)
            await _closed(gateway[1])

    async def _secured(self, client: Streams) -> None:
        """The handshake, only for who has got a place: one that is not ended holds no more than that."""
        if self._tls is not None:
            try:
                await client[1].start_tls(self._tls)
            except OSError:
                self._counts.refused.add(why="no TLS")
                raise
            # what reading pauses when its buffer is full is the connection of now (Python has done so since 3.12)
            client[0]._transport = client[1].transport  # type: ignore[attr-defined]

    async def _admitted(self, client: Streams, where: str) -> Admitted | None:
        try:
            connect = front_connect.read(await _packet(client[0]))
        except (BadConnect, asyncio.IncompleteReadError) as e:
            self._counts.refused.add(why="no CONNECT")
            await _refused(client, e.code if isinstance(e, BadConnect) else front_connect.NONE)
            return None
        judged = self._judge(connect)
        if isinstance(judged, Refused):
            self._counts.refused.add(why="not admitted")
            reason = f"{judged.why} ({self._how})"
            self._audit.record("admission", outcome="refused", who=judged.who, reason=reason, where=where)
            await _refused(client, judged.code)
            return None
        return judged

    async def _opened(self, client: Streams, admitted: Admitted) -> Streams | None:
        """The gateway, told CONNECT. A closed gate looks like a leaf that is away: try again."""
        try:
            gateway = await self._gateway.connect(admitted.id)
        except (OSError, TimeoutError, AuthorityAway, AuthorityRefused) as e:
            log.debug("the gateway: %s", e)
            self._counts.refused.add(why="no gateway")
            await _refused(client, front_connect.UNAVAILABLE)
            return None
        gateway[1].write(admitted.connect.encoded())
        self._counts.admitted.add(how=self._how)
        who, where = admitted.who, _address(client[1])
        self._audit.record("admission", who=who, subject=str(admitted.id), reason=self._how, where=where)
        return gateway

    def _left(self, admitted: Admitted) -> float | None:
        return max(0.0, (admitted.until - self._clock.now_ms()) / 1000) if admitted.until else None


async def _ended(tasks: Iterable["asyncio.Task[None]"]) -> None:
    found = list(tasks)
    for task in found:
        task.cancel()
    await asyncio.gather(*found, return_exceptions=True)


async def _packet(reader: asyncio.StreamReader) -> bytes:
    """The bytes of the first packet. Raises BadConnect, IncompleteReadError."""
    begun = b""
    while (whole := front_connect.size(begun)) is None:
        begun += await reader.readexactly(1)
    return begun + await reader.readexactly(whole - len(begun))


async def _refused(client: Streams, code: int) -> None:
    if code:
        client[1].write(front_connect.refusal(code))
        await client[1].drain()


async def _carried(client: Streams, gateway: Streams) -> None:
    """Until one end closes; what it said last still goes over."""
    ways = [asyncio.ensure_future(_pump(client[0], gateway[1])), asyncio.ensure_future(_pump(gateway[0], client[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()


async def _closed(writer: asyncio.StreamWriter) -> None:
    """What is written goes out, but nobody waits long for it."""
    writer.close()
    try:
        async with asyncio.timeout(LAST_SECONDS):
            await writer.wait_closed()
    except (OSError, TimeoutError, ssl.SSLError):
        writer.transport.abort()


def _address(writer: asyncio.StreamWriter) -> str:
    found = writer.get_extra_info("peername")
    return str(found[0]) if isinstance(found, tuple) else ""
