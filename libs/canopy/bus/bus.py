"""What a unit says, asks, serves and hears. Messages in and out are the catalogue's types; rights are its role's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import msgspec
from nats.aio.msg import Msg

from canopy.bus.asks import Asks
from canopy.bus.connection import Connection, NotConnected
from canopy.bus.dispatch import Dispatch, Handler, Place
from canopy.contracts import catalogue
from canopy.contracts.roles import ROLES, Role
from canopy.contracts.subject import AnySubject, Subject
from canopy.contracts.wire import MAX_BODY_BYTES, encode
from canopy.runtime.letters import DeadLetters
from canopy.runtime.metrics import Counter
from canopy.runtime.telemetry import Telemetry

log = logging.getLogger("canopy.bus")
Q = TypeVar("Q")
A = TypeVar("A")
ASK_SECONDS = 1.0

__all__ = ["Bus", "Place", "TooBig"]


class TooBig(ValueError):
    """A body above MAX_BODY_BYTES: sending it would close the connection."""


class Bus:
    """One unit's end of a connection. `node` is given to the one unit that speaks on the link (EdgeHub)."""

    def __init__(
        self,
        connection: Connection,
        unit: str,
        telemetry: Telemetry,
        node: str = "",
        role: Role | None = None,
        letters: DeadLetters | None = None,
        unsaid: Counter | None = None,
    ) -> None:
        self._unsaid = unsaid or Counter("unsaid_total", "", "counter")
        self.connection, self.unit, self.node = connection, unit, node
        self.telemetry, self.letters = telemetry, letters if letters is not None else DeadLetters(unit)
        self._role = role or ROLES[unit]
        self._asks = Asks(connection, f"_INBOX.{unit}")
        self._link = Asks(connection, f"node.{node.replace('.', '_')}.in.r") if node else None
        self._link_hearers: list[tuple[AnySubject, Callable[[Msg], Awaitable[None]]]] = []
        self._inboxes: list[Any] = []
        self._subscriptions: list[Any] = []
        self._dispatches: list[Dispatch] = []
        self._opened = False

    async def open(self) -> None:
        """Subscribe the inbox; the one of the link also brings the pushes, in one subscription (`node.{n}.in.>`)."""
        if self._opened:
            return
        self._opened = True
        for asks in self._all_asks():
            self.connection.on_lost(asks.lost)
        self._inboxes.append(await self.connection.subscribe(self._asks.wild, self._answer))
        if self._link is not None:
            subject = f"node.{self.node.replace('.', '_')}.in.>"
            self._inboxes.append(await self.connection.subscribe(subject, self._from_link))

    async def close(self) -> None:
        """End every subscription of this unit; what is in hand is finished (it may wait for answers)."""
        await self._end(self._subscriptions)
        await asyncio.gather(*(d.close() for d in self._dispatches))
        await self._end(self._inboxes)
        for asks in self._all_asks():
            self.connection.forget_lost(asks.lost)

    def _all_asks(self) -> list[Asks]:
        return [self._asks, self._link] if self._link is not None else [self._asks]

    @staticmethod
    async def _end(subscriptions: list[Any]) -> None:
        for subscription in subscriptions:
            try:
                await subscription.unsubscribe()
            except Exception:
                log.debug("unsubscribe", exc_info=True)
        subscriptions.clear()

    async def say(self, subject: Subject[Q, Any], message: Q | bytes, **tokens: str) -> None:
        """Publish and forget (bytes: an encoded message); while the server is away 2 MB wait, more is dropped.

        Raises TooBig, BadToken, PermissionError.
        """
        self._check(self._role.may_publish(subject), "say", subject)
        address, body = subject.at(**tokens), self._body(subject, message)
        with self.telemetry.span(f"say {subject.pattern}", kind="producer", begins=subject.begins):
            try:
                await self.connection.publish(address, body, headers=self._headers())
            except NotConnected as e:
                self._unsaid.add()
                log.debug("not said: %s: %s", address, e)

    async def say_all(self, said: Iterable[tuple[AnySubject, str, bytes]]) -> int:
        """Publish many at addresses that are worked out already, in order, without spans; how many could not be said.

        For a unit that answers thousands a second: rights are looked at once a subject.
        """
        allowed: set[int] = set()
        unsaid = 0
        for subject, address, body in said:
            if id(subject) not in allowed:
                self._check(self._role.may_publish(subject), "say", subject)
                allowed.add(id(subject))
            try:
                await self.connection.publish(address, self._fits(subject, body))
            except (NotConnected, TooBig) as e:
                unsaid += 1
                self._unsaid.add()
                log.debug("not said: %s: %s", address, e)
        return unsaid

    async def ask(self, subject: Subject[Q, A], message: Q, *, timeout: float = ASK_SECONDS, **tokens: str) -> A:
        """Ask once and return the answer. Raises AskFailed (NoResponders, AskTimeout, Reject, Retry), TooBig."""
        data = await self.ask_raw(subject, self._body(subject, message), timeout=timeout, **tokens)
        return msgspec.json.decode(data, type=subject.answer)

    async def ask_raw(self, subject: AnySubject, body: bytes, *, timeout: float = ASK_SECONDS, **tokens: str) -> bytes:
        """Ask with an encoded body; the answer as it came."""
        self._check(self._role.may_publish(subject), "ask", subject)
        await self.open()
        asks = self._link if self._link is not None and subject.pattern.startswith("node.") else self._asks
        address = subject.at(**tokens)
        with self.telemetry.span(f"ask {subject.pattern}", kind="client", begins=subject.begins):
            answer = await asks.ask(address, self._fits(subject, body), self._headers(), timeout)
        return bytes(answer.data)

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout: float) -> Msg:
        """A request of the streams (`canopy.bus.streams`) on a subject of the server's."""
        await self.open()
        return await self._asks.ask(subject, body, headers or None, timeout)

    async def serve(
        self, subject: Subject[Q, A], handler: Handler[Q, A], *, concurrency: int = 1, **tokens: str
    ) -> None:
        """Answer what is asked on `subject`; replicas share it by the catalogue's queue group."""
        self._check(subject in self._role.serves, "serve", subject)
        await self._listen(subject, handler, concurrency, tokens)

    async def serve_raw(
        self, subject: AnySubject, handler: Handler[bytes, bytes], *, concurrency: int = 1, **tokens: str
    ) -> None:
        """As `serve`, with bodies as they come: for whoever only carries them."""
        self._check(subject in self._role.serves, "serve", subject)
        await self._listen(subject, handler, concurrency, tokens, raw=True)

    async def hear(
        self, subject: Subject[Q, Any], handler: Handler[Q, None], *, concurrency: int = 1, **tokens: str
    ) -> None:
        """Take what is said on `subject`; each replica hears it unless the catalogue names a queue group."""
        self._check(subject in self._role.hears, "hear", subject)
        await self._listen(subject, handler, concurrency, tokens)

    async def hear_unstored(self, subject: AnySubject, handler: Handler[bytes, None], **tokens: str) -> None:
        """As `hear`, without what the MQTT gateway stores (QoS 1 and 2): that comes by its stream."""
        self._check(subject in self._role.hears, "hear", subject)
        await self._listen(subject, handler, 1, tokens, passing=_unstored)

    async def hear_raw(self, subject: AnySubject, handler: Handler[bytes, None], **tokens: str) -> None:
        """As `hear`, with bodies as they come."""
        self._check(subject in self._role.hears, "hear", subject)
        await self._listen(subject, handler, 1, tokens, raw=True)

    async def _listen(
        self,
        subject: AnySubject,
        handler: Handler[Any, Any],
        concurrency: int,
        tokens: dict[str, str],
        raw: bool = False,
        passing: Callable[[Msg], bool] | None = None,
    ) -> None:
        await self.open()
        dispatch = Dispatch(self.connection, subject, handler, self.telemetry, self.letters, concurrency, raw, passing)
        self._dispatches.append(dispatch)
        if self._link is not None and subject is catalogue.PUSH:
            self._link_hearers.append((subject, dispatch.take))
            return
        for wild in subject.wilds(**tokens):
            self._subscriptions.append(await self.connection.subscribe(wild, dispatch.take, subject.queue))
        await self.connection.flush()

    async def _answer(self, message: Msg) -> None:
        self._asks.take(message)

    async def _from_link(self, message: Msg) -> None:
        """Answers to their askers; pushes on, unless they came through a service import: those can be forged."""
        if self._link is not None and catalogue.LINK_INBOX.tokens(message.subject) is not None:
            self._link.take(message)
            return
        if "Nats-Request-Info" in (message.headers or {}):
            log.warning("dropped a message on %s that was a request", message.subject)
            return
        for subject, dispatch in self._link_hearers:
            if subject.tokens(message.subject) is not None:
                await dispatch(message)

    def _headers(self) -> dict[str, str] | None:
        headers: dict[str, str] = {}
        self.telemetry.inject(headers)
        return headers or None

    def _body(self, subject: AnySubject, message: Any) -> bytes:
        return self._fits(subject, message if isinstance(message, bytes) else encode(message))

    @staticmethod
    def _fits(subject: AnySubject, body: bytes) -> bytes:
        if len(body) > MAX_BODY_BYTES:
            raise TooBig(f"{subject.pattern}: {len(body)} bytes, at most {MAX_BODY_BYTES}")
        return body

    def _check(self, allowed: bool, what: str, subject: AnySubject) -> None:
        if not allowed:
            raise PermissionError(f"{self.unit} may not {what} {subject.pattern}: it is not in its row of ROLES")


def _unstored(message: Msg) -> bool:
    headers = message.headers
    return not headers or headers.get(catalogue.MQTT_HEADER, "0") == "0"
