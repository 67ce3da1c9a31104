"""Asks and their answers over one inbox: a future an ask, one subscription for all of them."""

import asyncio
import itertools
import secrets

from nats.aio.msg import Msg

from canopy.bus.connection import Connection, NotConnected
from canopy.bus.outcome import AskTimeout, NoResponders, from_headers

NO_RESPONDERS = "503"


class Asks:
    """`prefix` is the inbox: answers come to `{prefix}.{asker}.{id}`."""

    def __init__(self, connection: Connection, prefix: str) -> None:
        self._connection = connection
        self._asker = secrets.token_hex(6)
        self._prefix = f"{prefix}.{self._asker}"
        self._ids = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Msg]] = {}

    @property
    def wild(self) -> str:
        return f"{self._prefix}.*"

    def take(self, message: Msg) -> bool:
        """Give an answer to whom it belongs; False if nobody waits for it."""
        prefix, _, number = message.subject.rpartition(".")
        if prefix != self._prefix:  # of another EdgeHub with this node's name: its answers come here too
            return False
        future = self._waiting.pop(number, None)
        if future is None or future.done():
            return False
        future.set_result(message)
        return True

    def lost(self) -> None:
        """The connection went: what was asked over it is not answered any more (nobody needs to wait for that)."""
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(NotConnected("the connection was lost"))

    async def ask(self, subject: str, data: bytes, headers: dict[str, str] | None, timeout: float) -> Msg:
        """Publish and wait for the one answer. Raises NoResponders, AskTimeout, Reject or Retry."""
        if not self._connection.connected:
            raise NoResponders(f"{subject}: not connected to {self._connection.url}")
        number, loop = str(next(self._ids)), asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._waiting[number] = future
        late: asyncio.TimerHandle | None = None
        try:
            await self._connection.publish(subject, data, f"{self._prefix}.{number}", headers)
            late = loop.call_later(timeout, _late, future)  # thousands a second: asyncio.timeout costs thrice as much
            return answered(subject, await future)
        except NotConnected as e:
            raise NoResponders(f"{subject}: {e}") from None
        except TimeoutError:
            raise AskTimeout(f"{subject}: no answer within {timeout:g} s") from None
        finally:
            self._waiting.pop(number, None)
            if late is not None:
                late.cancel()


def _late(future: "asyncio.Future[Msg]") -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def answered(subject: str, message: Msg) -> Msg:
    """The answer, unless it says a failure: then that is raised."""
    headers = message.headers or {}
    if not message.data and headers.get("Status") == NO_RESPONDERS:
        raise NoResponders(f"{subject}: nobody serves it")
    failure = from_headers(headers)
    if failure is not None:
        raise failure
    return message
