"""Streams of last values in CLOUD (TWINS, SESSIONS, CLUSTER): one message a subject, written by compare-and-set.

Reads of one subject come from the stream's leader (RULES 17), never by a direct get, which may be behind.
"""

import asyncio
import base64
import contextlib
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from canopy.bus.bus import Bus
from canopy.bus.jsapi import (
    NOT_FOUND,
    WRONG_SEQUENCE,
    Metadata,
    StreamError,
    call,
    ensure_stream,
    metadata,
    served,
    written,
)
from canopy.bus.outcome import AskFailed
from canopy.contracts.roles import STREAMS
from canopy.runtime.logs import once_per
from canopy.runtime.patience import patiently

log = logging.getLogger("canopy.bus")
WRITE_SECONDS = 5.0
HEARTBEAT_SECONDS = 2.0
SILENT_SECONDS = 6.0
"""A consumer is on one server of a clustered hub and goes with it: then only its silence tells."""
CONSUMER_SECONDS = 3.0
"""A consumer that was given to a server that is just dying is never made; another name is given to another server."""
TRY_AGAIN_SECONDS = 0.5
ENSURE_MOST_SECONDS = 1.0
SAY_AGAIN_SECONDS = 30.0


class WrongSequence(Exception):
    """Someone else wrote this subject since it was read."""


@dataclass(frozen=True, slots=True)
class Value:
    """One message of a stream: its subject, sequence and body."""

    subject: str
    seq: int
    data: bytes


class LastValues:
    """One stream. `name` is a key of `roles.STREAMS`; only a unit whose role writes or purges it may do so."""

    def __init__(self, bus: Bus, name: str) -> None:
        self.name, self.bus, self.subject = name, bus, STREAMS[name]

    async def ensure(self, max_bytes: int = -1, replicas: int = 1, **more: Any) -> None:
        """Make the stream if there is none, or is another way; waits while the hub cannot.

        `more` is of JetStream's configuration, where a stream may lose its oldest (discard, max_msgs, max_age in ns).
        """
        config = {
            "name": self.name,
            "subjects": [self.subject.wild()],
            "max_msgs_per_subject": 1,
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_bytes": max_bytes,
            "num_replicas": replicas,
            "allow_direct": True,
        } | more
        what, unready = f"the stream {self.name}", (AskFailed, StreamError)
        await patiently(what, lambda: ensure_stream(self.bus, config), unready, ENSURE_MOST_SECONDS)

    async def addresses(self, wild: str) -> tuple[list[str], int]:
        """The subjects that `wild` covers and the stream holds, and how many messages it holds in all."""
        info = await call(self.bus, f"STREAM.INFO.{self.name}", {"subjects_filter": wild})
        return list(info["state"].get("subjects") or ()), int(info["state"]["messages"])

    async def created(self) -> tuple[str, int]:
        """The stream's creation time and its last sequence: another time is another stream."""
        info = await call(self.bus, f"STREAM.INFO.{self.name}")
        return str(info["created"]), int(info["state"]["last_seq"])

    async def get(self, address: str) -> Value | None:
        """The last message of a subject, from the stream's leader."""
        try:
            found = (await call(self.bus, f"STREAM.MSG.GET.{self.name}", {"last_by_subj": address}))["message"]
        except StreamError as e:
            if e.code in NOT_FOUND:
                return None
            raise
        return Value(found["subject"], int(found["seq"]), base64.b64decode(found.get("data", "")))

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int:
        """Write; returns the new sequence. Raises WrongSequence if the last one of the subject is not `expect`."""
        headers = dict(trace or {})
        if expect is not None:
            headers["Nats-Expected-Last-Subject-Sequence"] = str(expect)
        try:
            return written(await served(self.bus, address, data, WRITE_SECONDS, headers))
        except StreamError as e:
            if e.code in WRONG_SEQUENCE:
                raise WrongSequence(address) from e
            raise

    async def purge(self, address: str, upto: int) -> None:
        """Remove what the subject holds up to and with sequence `upto`; what came later stays (RULES 26)."""
        await call(self.bus, f"STREAM.PURGE.{self.name}", {"filter": address, "seq": upto + 1})

    async def under(self, wild: str) -> list[Value]:
        """The last message of every subject that `wild` covers, read once through a short-lived consumer."""
        values: list[Value] = []
        done = asyncio.Event()
        reader = Reader(self.bus, self.name, wild, values.append, done.set)
        async with reader:
            async with asyncio.timeout(WRITE_SECONDS * 4):
                await done.wait()
        return values


class Reader:
    """A push consumer of our own over one stream: last message a subject (or from `start` on, in JetStream's words),
    then all that comes. Detects gaps."""

    def __init__(
        self,
        bus: Bus,
        stream: str,
        wild: str,
        on_value: Callable[[Value], None],
        on_caught_up: Callable[[], None],
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self._bus, self._stream, self._wild = bus, stream, wild
        self._start = start or {"deliver_policy": "last_per_subject"}
        self._on_value, self._on_caught_up = on_value, on_caught_up
        self._name = f"{bus.unit}-{secrets.token_hex(6)}"
        self._subscription: Any = None
        self._delivered = 0
        self._caught_up = False
        self.broken = asyncio.Event()
        self.last_heard = asyncio.get_running_loop().time()

    async def __aenter__(self) -> "Reader":
        inbox = f"_INBOX.{self._bus.unit}.reader.{self._name}"
        await self._bus.open()
        self._subscription = await self._bus.connection.subscribe(inbox, self._take)
        config = {
            "name": self._name,
            "deliver_subject": inbox,
            "filter_subject": self._wild,
            "ack_policy": "none",
            "replay_policy": "instant",
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
            "flow_control": True,
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": int(30e9),
            **self._start,
        }
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        try:
            info = await call(self._bus, f"CONSUMER.CREATE.{self._stream}.{self._name}", body, (CONSUMER_SECONDS,))
        except BaseException:
            await self._subscription.unsubscribe()
            raise
        if not info.get("num_pending", 0) and not self._delivered:
            self._say_caught_up()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(Exception):
            await self._subscription.unsubscribe()
        with contextlib.suppress(AskFailed, StreamError):
            await call(self._bus, f"CONSUMER.DELETE.{self._stream}.{self._name}", None, (1.0,))

    async def _take(self, message: Msg) -> None:
        self.last_heard = asyncio.get_running_loop().time()
        if (message.headers or {}).get("Status") == "100":
            return await self._keep_flowing(message)
        meta = metadata(message.reply)
        self._delivered += 1
        if meta.delivered != self._delivered:
            self.broken.set()
            return None
        return self._give(message, meta)

    def _give(self, message: Msg, meta: Metadata) -> None:
        try:
            self._on_value(Value(message.subject, meta.seq, message.data))
        except Exception as bug:
            self._bus.letters.failed(message.subject, bug, message.data)
        if not meta.pending:
            self._say_caught_up()

    def _say_caught_up(self) -> None:
        if not self._caught_up:
            self._caught_up = True
            self._on_caught_up()

    async def _keep_flowing(self, message: Msg) -> None:
        """Answer flow control, which stands in the reply or, when stalled, in a header of the heartbeat."""
        reply = message.reply or (message.headers or {}).get("Nats-Consumer-Stalled")
        if reply:
            await self._bus.connection.publish(reply, b"")


class Follow:
    """Follow a stream for ever: `on_reset`, then every last value, then `on_caught_up`, then what comes.

    `ensure` is awaited before each reading: the one who makes the stream makes it again when the hub has lost it.
    It begins again, with `on_reset`, after a reconnect, a gap, a silence, and when the stream is another one or has
    lost its end. A purge is delivered to nobody: until the next beginning those who follow may hold what the stream
    holds no more, and whoever must know exactly reads it (`LastValues.get`, `under`).
    """

    def __init__(
        self,
        stream: LastValues,
        wild: str,
        *,
        on_reset: Callable[[], None],
        on_value: Callable[[Value], None],
        on_caught_up: Callable[[], None] = lambda: None,
        ensure: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._stream, self._wild, self._ensure = stream, wild, ensure
        self._say = once_per(SAY_AGAIN_SECONDS)
        self._on_reset, self._on_value, self._on_caught_up = on_reset, on_value, on_caught_up
        self._again = asyncio.Event()
        self._last_seq = 0

    async def run(self) -> None:
        """Until cancelled."""
        connection = self._stream.bus.connection
        connection.on_reconnect(self._reconnected)
        try:
            while True:
                try:
                    await self._once()
                except (AskFailed, StreamError, TimeoutError) as e:
                    if self._say("trying on"):
                        log.info("following %s: %s; trying on", self._stream.name, e)
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
        finally:
            connection.forget(self._reconnected)

    async def _reconnected(self) -> None:
        self._again.set()

    async def _once(self) -> None:
        self._again.clear()
        if self._ensure is not None:
            await self._ensure()
        created, _ = await self._stream.created()
        self._last_seq = 0
        self._on_reset()
        stream = self._stream
        async with Reader(stream.bus, stream.name, self._wild, self._take, self._on_caught_up) as reader:
            while not await self._broken(reader, created):
                pass

    async def _broken(self, reader: Reader, created: str) -> bool:
        """Wait a heartbeat; True if the reading must begin again."""
        waits = [asyncio.ensure_future(self._again.wait()), asyncio.ensure_future(reader.broken.wait())]
        try:
            done, _ = await asyncio.wait(waits, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if done:
            return True
        if asyncio.get_running_loop().time() - reader.last_heard > SILENT_SECONDS:
            return True
        seen = self._last_seq  # what comes while the stream is asked may be later than the answer
        now_created, last = await self._stream.created()
        return now_created != created or last < seen

    def _take(self, value: Value) -> None:
        self._last_seq = max(self._last_seq, value.seq)
        self._on_value(value)
