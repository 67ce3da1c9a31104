"""What happens to every message that a unit takes: decode, span, handler, outcome, answer. Handlers know none of it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from nats.aio.msg import Msg

from canopy.bus.connection import Connection
from canopy.bus.outcome import Reject, Retry, to_headers
from canopy.contracts import catalogue
from canopy.contracts.subject import AnySubject
from canopy.contracts.wire import MAX_BODY_BYTES, encode
from canopy.runtime.letters import DeadLetters
from canopy.runtime.telemetry import Span, Telemetry, current_traceparent

log = logging.getLogger("canopy.bus")
Q_contra = TypeVar("Q_contra", contravariant=True)
A_co = TypeVar("A_co", covariant=True)
Q = TypeVar("Q")
A = TypeVar("A")
_SHOWN_CHARACTERS = 200
SERVERS = "$"
"""So begin the subjects of the servers' own."""
TRIES = 3
"""Of something heard, which nobody says again; who asks tries again himself."""
_BETWEEN_TRIES_SECONDS = 0.05
_OF_LETTERS = (catalogue.LETTERS, catalogue.CLOUD_LETTERS, catalogue.HUB_LETTERS)
"""A bug in what carries dead letters makes none: it would feed on itself."""


def _name_device(span: Span, tokens: dict[str, str], body: Any) -> None:
    """A span about one device says which."""
    namespace = tokens.get("namespace") or getattr(body, "namespace", "")
    name = tokens.get("name") or getattr(body, "name", "")
    if namespace and name:
        span.set("device", f"{namespace}/{name}")


@dataclass(frozen=True, slots=True)
class Place(Generic[Q]):
    """Where a message came from: what stands in its subject, and its headers."""

    tokens: dict[str, str]
    headers: dict[str, str]
    subject: str

    def __getitem__(self, name: str) -> str:
        return self.tokens[name]


Handler = Callable[[Q, Place[Any]], Awaitable[A]]


class Dispatch:
    """One subscription. Up to `concurrency` handlers at once; 1 keeps the order."""

    def __init__(
        self,
        connection: Connection,
        subject: AnySubject,
        handler: Handler[Any, Any],
        telemetry: Telemetry,
        letters: DeadLetters,
        concurrency: int,
        raw: bool = False,
        passing: Callable[[Msg], bool] | None = None,
    ) -> None:
        self._connection, self._subject, self._handler = connection, subject, handler
        self._telemetry, self._letters = telemetry, letters
        self._decoder = None if raw or subject.message is bytes else msgspec.json.Decoder(subject.message)
        self._slots = asyncio.Semaphore(concurrency)
        self._serial = concurrency == 1
        self._passing = passing
        self._running: set[asyncio.Task[None]] = set()

    async def take(self, message: Msg) -> None:
        """The subscription's callback; what `passing` is False of is not ours, and costs nothing more. Nobody of ours
        wants an answer at a subject of the servers' own; a hub lets a node ask so, and we would acknowledge for it."""
        if (self._passing is not None and not self._passing(message)) or message.reply.startswith(SERVERS):
            return
        if self._serial:
            await self._handle(message)
            return
        await self._slots.acquire()
        task = asyncio.get_running_loop().create_task(self._handle(message))
        self._running.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._slots.release()

    async def close(self) -> None:
        """Wait, bounded, for what is in hand."""
        if self._running:
            await asyncio.wait(self._running, timeout=5)

    async def _handle(self, message: Msg) -> None:
        tokens = self._subject.tokens(message.subject)
        if tokens is None:
            return await self._stranger(message)
        headers = dict(message.headers or {})
        try:
            body = message.data if self._decoder is None else self._decoder.decode(message.data)
        except msgspec.DecodeError as e:
            return await self._answer(message, Reject(400, f"{self._subject.pattern}: {e}"))
        context = self._telemetry.extract(headers) or self._telemetry.remote(getattr(body, "trace", ""))
        with self._telemetry.span(self._subject.pattern, context, kind="server", begins=self._subject.begins) as span:
            if span.recording:
                _name_device(span, tokens, body)
            place: Place[Any] = Place(tokens, headers, message.subject)
            return await self._answer(message, await self._outcome(body, place, message))

    async def _stranger(self, message: Msg) -> None:
        """A subject of the right form with words that may not stand there. Anybody may send thousands: no log line."""
        shown = message.subject[:_SHOWN_CHARACTERS]
        if message.reply:
            return await self._answer(message, Reject(404, f"{shown} is no subject of ours"))
        log.debug("%s is no subject of ours", shown)

    async def _outcome(self, body: Any, place: Place[Any], message: Msg) -> bytes | Exception | None:
        """The encoded answer, none where nothing is answered, or the failure to be said.

        A bug is tried again where nobody else will, and then set aside: what comes behind it goes on.
        """
        tries = 0
        while True:
            tries += 1
            try:
                answer = await self._handler(body, place)
                return None if answer is None else self._fits(answer)
            except (Reject, Retry) as outcome:
                return outcome
            except Exception as bug:
                if not message.reply and tries < TRIES:
                    await asyncio.sleep(tries * _BETWEEN_TRIES_SECONDS)
                    continue
                return self._set_aside(bug, message, tries)

    def _set_aside(self, bug: Exception, message: Msg, tries: int) -> Exception:
        if self._subject in _OF_LETTERS:
            log.error("handling %s", message.subject, exc_info=bug)
        else:
            asked = bool(message.reply)  # an ask that is asked again bears another stamp
            trace = current_traceparent()
            self._letters.failed(message.subject, bug, message.data, trace=trace, tries=tries, by_place=asked)
        return bug

    async def _answer(self, message: Msg, outcome: bytes | Exception | None) -> None:
        if not message.reply:
            if isinstance(outcome, Exception):
                log.warning("%s: %s", message.subject, outcome)
            return None
        if isinstance(outcome, Exception):
            return await self._connection.answer(message, b"", to_headers(outcome))
        if outcome is not None:
            await self._connection.answer(message, outcome)

    def _fits(self, answer: Any) -> bytes:
        body = answer if isinstance(answer, bytes) else encode(answer)
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"an answer to {self._subject.pattern} of {len(body)} bytes; the most is {MAX_BODY_BYTES}")
        return body
