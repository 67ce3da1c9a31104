"""A watch: one answer that goes on, a line an event, until its time is over, the client goes or the server stops."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from starlette.types import Message, Receive, Scope, Send

from canopy.kubeserve import tables
from canopy.kubeserve.history import Subscription
from canopy.kubeserve.kinds import Kind
from canopy.kubeserve.requests import Form
from canopy.kubeserve.selectors import Selector
from canopy.kubeserve.status import Json
from canopy.kubeserve.stored import Change, Stored

BOOKMARK_EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one watch is about."""

    kind: Kind
    namespace: str
    selector: Selector
    form: Form
    bookmarks: bool
    timeout_seconds: float


class Lines:
    """Events as lines. A Table's columns are named only in the first one, as Kubernetes does."""

    def __init__(self, wanted: Wanted, now: Callable[[], datetime]) -> None:
        self._wanted, self._now = wanted, now
        self._first = True

    def initial(self, found: Iterable[Stored]) -> bytes:
        return b"".join(self._line("ADDED", item.body) for item in found)

    def changes(self, changes: Sequence[Change]) -> bytes:
        return b"".join(map(self._change, changes))

    def _change(self, change: Change) -> bytes:
        wanted = self._wanted
        if wanted.namespace and change.new.key[0] != wanted.namespace:
            return b""
        seen = change.type if wanted.selector.everything else change.seen_by(wanted.selector)
        return self._line(seen, change.new.body) if seen else b""

    def bookmark(self, revision: int) -> bytes:
        kind = self._wanted.kind
        meta = {"resourceVersion": str(revision), "creationTimestamp": None}
        return self._line("BOOKMARK", msgspec.json.encode(_shell(kind, meta)), bare=True)

    def _line(self, word: str, body: bytes, bare: bool = False) -> bytes:
        if self._wanted.form.table:
            body = self._table(msgspec.json.decode(body), bare)
        return b'{"type":"%s","object":%s}\n' % (word.encode(), body)

    def _table(self, body: Json, bare: bool) -> bytes:
        meta = {"resourceVersion": body["metadata"]["resourceVersion"]}
        rows = [] if bare else [body]
        form, first = self._wanted.form, self._first
        self._first = False
        return msgspec.json.encode(tables.table(self._wanted.kind, rows, form.include, self._now(), meta, first))


def _shell(kind: Kind, meta: Json) -> Json:
    return {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}


class WatchAnswer:
    """The ASGI answer of a watch."""

    def __init__(self, subscription: Subscription, initial: Sequence[Stored], wanted: Wanted, lines: Lines) -> None:
        self._subscription, self._initial = subscription, initial
        self._wanted, self._lines = wanted, lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        speaking = asyncio.create_task(self._speak(send))
        listening = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({speaking, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, listening):
                task.cancel()
            await asyncio.gather(speaking, listening, return_exceptions=True)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _speak(self, send: Send) -> None:
        """A subscription that is cut off ends the answer; the client watches again from what it has seen."""
        # At first what there is, even if it is nothing: the client has its headers then.
        await send(_piece(self._lines.initial(self._initial)))
        ends = time.monotonic() + self._wanted.timeout_seconds
        bookmark_at, told = time.monotonic(), 0
        while not self._subscription.cut_off and (left := ends - time.monotonic()) > 0:
            await _wait(self._subscription, min(left, BOOKMARK_EVERY_SECONDS))
            changes, reached = self._subscription.take()
            text = self._lines.changes(changes)
            if self._wanted.bookmarks and reached > told and time.monotonic() >= bookmark_at:
                text += self._lines.bookmark(reached)
                bookmark_at, told = time.monotonic() + BOOKMARK_EVERY_SECONDS, reached
            if text:
                await send(_piece(text))


def _piece(text: bytes) -> Message:
    return {"type": "http.response.body", "body": text, "more_body": True}


async def _wait(subscription: Subscription, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await subscription.more()
    except TimeoutError:
        pass


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
