"""What is asked of nats-servers over their system account: who is connected, throw somebody out, read the files again.

spire_integration asks the hub's servers, all of them; edgeidentity its leaf. `System` owns no connection.
"""

import asyncio
import itertools
import secrets
from dataclasses import dataclass, field
from typing import Any

import msgspec
from nats.aio.msg import Msg

from canopy.bus.connection import Connection
from canopy.bus.outcome import AskFailed, AskTimeout, NoResponders

ANSWER_SECONDS = 2.0
RELOAD_SECONDS = 25.0
"""A reload, and with it every login, waits for an MQTT client whose CONNECT falls into it: 5 s for each, in which that
one asks a JetStream that is being configured. Who asks for another one meanwhile makes the next one fall into that."""
QUIET_SECONDS = 0.3
"""After the last answer, until no further server is waited for."""
MOST_CONNECTIONS = 1024
"""In one answer of a server; for more ask again."""
CLOSED = 1
"""In the servers' words: connections that have ended (they keep the last 10,000)."""


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection at one server. `name` is the user that it was let in as, `reason` why it ended, if it did."""

    server: str
    cid: int
    kind: str = ""
    name: str = ""
    account: str = ""
    host: str = ""
    port: int = 0
    stopped: str = ""
    reason: str = ""


class _Connection(msgspec.Struct):
    cid: int = 0
    kind: str = ""
    ip: str = ""
    port: int = 0
    authorized_user: str = ""
    account: str = ""
    stop: str = ""
    reason: str = ""


class _Page(msgspec.Struct):
    connections: list[_Connection] = msgspec.field(default_factory=list)


class _Server(msgspec.Struct):
    id: str = ""
    name: str = ""


class _Failure(msgspec.Struct):
    description: str = ""


class _Answer(msgspec.Struct):
    server: _Server = msgspec.field(default_factory=_Server)
    data: _Page | None = None
    error: _Failure | None = None


class _Varz(msgspec.Struct):
    config_load_time: str = ""


class _Read(msgspec.Struct):
    data: _Varz = msgspec.field(default_factory=_Varz)


class _Seen(msgspec.Struct):
    server: _Server = msgspec.field(default_factory=_Server)


_ANSWER, _SEEN, _READ = msgspec.json.Decoder(_Answer), msgspec.json.Decoder(_Seen), msgspec.json.Decoder(_Read)
_SERVER = "$SYS.REQ.SERVER"


@dataclass(slots=True)
class _Answers:
    """What came to one ask. `came` is set with each, and when the connection is lost: no further one comes."""

    got: list[Msg] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False


class System:
    """`async with` subscribes an inbox of its own on `connection`, and takes it back."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._prefix = f"_INBOX.system.{secrets.token_hex(6)}"
        self._ids = itertools.count(1)
        self._waiting: dict[str, _Answers] = {}
        self._subscription: Any = None

    async def __aenter__(self) -> "System":
        self._subscription = await self._connection.subscribe(f"{self._prefix}.*", self._take)
        self._connection.on_lost(self._lost)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.forget_lost(self._lost)
        if self._connection.connected:
            await self._subscription.unsubscribe()

    async def servers(self) -> dict[str, str]:
        """Name by id of every server that answers. Raises AskFailed."""
        seen = [_SEEN.decode(m.data).server for m in await self._all(f"{_SERVER}.PING", {})]
        return {server.id: server.name for server in seen}

    async def connections(self, name: str = "", account: str = "") -> list[Connected]:
        """Open connections, at every server that answers; of the user `name` only, in `account` only."""
        asked: dict[str, Any] = {"auth": True, "limit": MOST_CONNECTIONS}
        asked |= {"user": name} if name else {}
        return await self._pages(asked | ({"acc": account} if account else {}))

    async def ended(self) -> list[Connected]:
        """The connections that ended last, at every server that answers. Raises AskFailed."""
        return await self._pages({"auth": True, "state": CLOSED, "sort": "stop", "limit": MOST_CONNECTIONS})

    async def kick(self, server: str, cid: int) -> bool:
        """Close one connection; False if it was not there any more. Raises AskFailed."""
        answer = _ANSWER.decode((await self._one(f"{_SERVER}.{server}.KICK", {"cid": cid})).data)
        return answer.error is None

    async def reload(self, server: str) -> str:
        """Read configuration and certificates again; what the server says against it, else ''. Raises AskFailed."""
        answer = _ANSWER.decode((await self._one(f"{_SERVER}.{server}.RELOAD", {}, RELOAD_SECONDS)).data)
        return answer.error.description or "refused" if answer.error else ""

    async def read_at(self, server: str) -> str:
        """When it read its configuration last, by its own clock. Raises AskFailed."""
        return _READ.decode((await self._one(f"{_SERVER}.{server}.VARZ", {})).data).data.config_load_time

    async def _pages(self, asked: dict[str, Any]) -> list[Connected]:
        found = []
        for message in await self._all(f"{_SERVER}.PING.CONNZ", asked):
            answer = _ANSWER.decode(message.data)
            for one in answer.data.connections if answer.data else ():
                where = (one.ip, one.port, one.stop, one.reason)
                found.append(Connected(answer.server.id, one.cid, one.kind, one.authorized_user, one.account, *where))
        return found

    async def _one(self, subject: str, body: dict[str, Any], seconds: float = ANSWER_SECONDS) -> Msg:
        return (await self._asked(subject, body, most=1, seconds=seconds))[0]

    async def _all(self, subject: str, body: dict[str, Any]) -> list[Msg]:
        return await self._asked(subject, body, most=0)

    async def _asked(self, subject: str, body: dict[str, Any], most: int, seconds: float = ANSWER_SECONDS) -> list[Msg]:
        """The answers, until `most` or until it is quiet. Raises AskFailed, also for none."""
        if not self._connection.connected:
            raise NoResponders(f"{subject}: not connected to {self._connection.url}")
        number, answers = str(next(self._ids)), _Answers()
        self._waiting[number] = answers
        try:
            await self._connection.publish(subject, msgspec.json.encode(body), f"{self._prefix}.{number}")
            await self._gather(answers, most, seconds)
        finally:
            del self._waiting[number]
        if not answers.got and answers.lost:
            raise NoResponders(f"{subject}: the connection was lost")
        if not answers.got:
            raise AskTimeout(f"{subject}: no answer within {seconds:g} s")
        if any((m.headers or {}).get("Status") == "503" for m in answers.got):
            raise NoResponders(f"{subject}: no such server")
        return answers.got

    @staticmethod
    async def _gather(answers: _Answers, most: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds) as limit:
                while not answers.lost and (not most or len(answers.got) < most):
                    await answers.came.wait()
                    answers.came.clear()
                    limit.reschedule(asyncio.get_running_loop().time() + QUIET_SECONDS)
        except TimeoutError:
            pass

    async def _take(self, message: Msg) -> None:
        answers = self._waiting.get(message.subject.rpartition(".")[2])
        if answers is not None:
            answers.got.append(message)
            answers.came.set()

    def _lost(self) -> None:
        for answers in self._waiting.values():
            answers.lost = True
            answers.came.set()


__all__ = ["AskFailed", "Connected", "System"]
