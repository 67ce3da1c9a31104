"""The MQTT gateway's stream `$MQTT_msgs` (QoS 1 and 2), read by one durable pull consumer of DeviceTwin's.

The stream is made by us before any client connects; a message is stored before its PUBACK only while our consumer
exists. The position is DeviceTwin's: it resets the consumer after every start and reconnect (facts: redelivery is not
to be trusted). Everything acknowledged goes (interest retention).

The consumer takes all of the stream, for devices may publish the contract's topics only: with a filter for each of them
nats-server looked through all subjects of the stream for each message (half of its time with a hundred devices). No
filter at all would not do: an older release's consumer that loses its filters is never woken (2.15.1).
"""

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import Any

from nats.aio.msg import Msg

from canopy.bus.bus import Bus
from canopy.bus.jsapi import API, StreamError, call, ensure_stream, metadata
from canopy.contracts.catalogue import MQTT_STORED, MQTT_STREAM
from canopy.sync.ingest import StreamNow

log = logging.getLogger("canopy.bus")
DURABLE = "devicetwin"
BATCH = 512
EXPIRES_SECONDS = 30.0
ACK_WAIT_SECONDS = 60.0
RAN_OUT = "408"
CALL_SECONDS = (2.0,)
"""A server that has just started may leave a call unanswered: ask again soon."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message of the stream: the subject as the device published it, its place, how to acknowledge."""

    subject: str
    data: bytes
    seq: int
    time_ns: int
    ack: str


class Gateway:
    """DeviceTwin's reader: `open` once, `now`, `reset`, then `next` again and again; after a reconnect from `now`."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._arrived: list[Incoming] = []
        self._wake = asyncio.Event()
        self._wanted = 0
        self._asked_at = 0.0
        self._lost = ""
        self._inbox = f"_INBOX.{bus.unit}.pull"
        self._expected: int | None = None
        self._last = 0
        self._subscription: Any = None

    async def open(self, max_bytes: int) -> None:
        """Make sure of the stream and of the consumer."""
        stream = {
            "name": MQTT_STREAM,
            "subjects": [MQTT_STORED + ">"],
            "storage": "file",
            "retention": "interest",
            "discard": "new",
            "max_bytes": max_bytes,
            "num_replicas": 1,
        }
        await ensure_stream(self._bus, stream, CALL_SECONDS)
        config = {
            "durable_name": DURABLE,
            "filter_subject": MQTT_STORED + ">",
            "ack_policy": "all",
            "deliver_policy": "all",
            "ack_wait": int(ACK_WAIT_SECONDS * 1e9),
            "max_ack_pending": 20_000,
            "max_waiting": 16,
        }
        body = {"stream_name": MQTT_STREAM, "config": config}
        await call(self._bus, f"CONSUMER.DURABLE.CREATE.{MQTT_STREAM}.{DURABLE}", body, CALL_SECONDS)

    async def now(self) -> StreamNow:
        """The stream as it is, and the server's run. Raises StreamError if another run began meanwhile."""
        run = self._bus.connection.server_run
        info = await call(self._bus, f"STREAM.INFO.{MQTT_STREAM}", None, CALL_SECONDS)
        if self._bus.connection.server_run != run:
            raise StreamError(0, "nats-server started anew meanwhile")
        state = info["state"]
        return StreamNow(str(info["created"]), int(state["first_seq"]), int(state["last_seq"]), run)

    async def reset(self, start: int) -> None:
        """The next message is the first at or above `start`; what has arrived but was not taken is dropped.

        Pulls of before, also of a process that was killed, stay open at the server and are served first, for 2 s even
        when nobody hears them: so the inbox is always the same one. The consumer counts its deliveries anew from 1
        (the first may come before the answer); a gap in that count means that something went to nobody: then `next`
        says so.
        """
        self._arrived, self._wanted, self._lost = [], 0, ""
        self._expected, self._last = None, start - 1
        if self._subscription is None:
            self._subscription = await self._bus.connection.subscribe(self._inbox, self._take)
        await call(self._bus, f"CONSUMER.RESET.{MQTT_STREAM}.{DURABLE}", {"seq": start}, CALL_SECONDS)

    async def next(self, wait_seconds: float) -> list[Incoming]:
        """All that has arrived, in order; waits up to `wait_seconds` for the first, or for `wake`.

        Raises StreamError when the server refuses to deliver: then go on from `open`, `now` and `reset`.
        """
        if self._lost and not self._arrived:
            raise StreamError(0, f"the gateway's consumer does not deliver: {self._lost}")
        await self._refill()
        if not self._arrived:
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            except TimeoutError:
                return []
        self._wake.clear()
        found, self._arrived = self._arrived, []
        return found

    def wake(self) -> None:
        """Let a waiting `next` return."""
        self._wake.set()

    async def acknowledge(self, last: Incoming) -> None:
        """All up to and with `last` is stored."""
        await self._bus.connection.publish(last.ack, b"+ACK")

    async def close(self) -> None:
        """Hear no more; the consumer stays."""
        if self._subscription is not None:
            await self._subscription.unsubscribe()
            self._subscription = None

    async def _refill(self) -> None:
        """Keep at least half a batch asked for; what was asked longer ago than it may last brings nothing more."""
        now = time.monotonic()
        if now - self._asked_at > EXPIRES_SECONDS:
            self._wanted = 0
        if self._wanted > BATCH // 2:
            return
        self._wanted, self._asked_at = self._wanted + BATCH, now
        body = {"batch": BATCH, "expires": int(EXPIRES_SECONDS * 1e9)}
        subject = f"{API}.CONSUMER.MSG.NEXT.{MQTT_STREAM}.{DURABLE}"
        await self._bus.connection.publish(subject, json.dumps(body).encode(), self._inbox)

    async def _take(self, message: Msg) -> None:
        if message.headers and "Status" in message.headers and not message.reply:
            self._ended(message)
            return
        meta = metadata(message.reply)
        self._wanted = max(0, self._wanted - 1)
        if self._lost or (self._expected is None and meta.delivered != 1):
            return  # of before the reset
        if meta.delivered != (self._expected or 1) or meta.seq <= self._last:
            self._lost = f"sequence {meta.seq} came behind {self._last}, and not all between came here"
            self._wake.set()
            return
        self._expected, self._last = meta.delivered + 1, meta.seq
        subject = message.subject.removeprefix(MQTT_STORED)
        self._arrived.append(Incoming(subject, message.data, meta.seq, meta.time_ns, message.reply))
        self._wake.set()

    def _ended(self, message: Msg) -> None:
        """A pull request ran out (408), or the consumer is gone or busy (409, 503): it brings nothing more."""
        headers = message.headers or {}
        left = int(headers.get("Nats-Pending-Messages", self._wanted))
        self._wanted = max(0, self._wanted - left)
        if headers["Status"] != RAN_OUT:
            self._lost = (
                f"the gateway's consumer does not deliver: {headers['Status']} {headers.get('Description', '')}"
            )
        self._wake.set()
