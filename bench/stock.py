"""Stock MQTT clients as processes: Debian's mosquitto_pub and mosquitto_sub (one process a publisher or listener)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from doors import Door, Doors

SUBSCRIBES_SECONDS, EACH_SECONDS = 1.0, 0.02
LINE_BYTES = 1 << 20
TOPIC = "$hw/events/device/default/{}/twin/update"
MEMBERSHIP = "$hw/events/node/edge-1/membership/updated"

Heard = Callable[[bytes, float], None]


class Publisher:
    """One `mosquitto_pub -l` at QoS 1: a line is a message."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def open(cls, door: Door, topic: str) -> "Publisher":
        """Connects by itself; what is written before waits in the pipe."""
        command = ("mosquitto_pub", *door, "-q", "1", "-l", "-t", topic)
        return cls(await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE))

    def send(self, line: bytes) -> None:
        """Publish; the line has its end."""
        assert self._process.stdin is not None
        self._process.stdin.write(line)

    async def drain(self) -> None:
        """Wait while the pipe is full."""
        assert self._process.stdin is not None
        await self._process.stdin.drain()

    async def close(self) -> None:
        """Until the gateway has acknowledged everything."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def publishers(doors: Doors, devices: Iterable[str]) -> AsyncIterator[dict[str, Publisher]]:
    """One for each device's twin/update."""
    async with AsyncExitStack() as stack:
        found = {}
        for name in devices:
            found[name] = await Publisher.open(await doors.device(name), TOPIC.format(name))
            stack.push_async_callback(found[name].close)
        yield found


@asynccontextmanager
async def hearing(doors: Doors, devices: Iterable[str], what: str, heard: Heard) -> AsyncIterator[None]:
    """Call `heard(payload, time)` for each message that a device is told on `what`, like twin/update/result."""
    topics = [(await doors.device(name), f"$hw/events/device/default/{name}/{what}") for name in devices]
    async with listening(topics, heard):
        yield


@asynccontextmanager
async def listening(topics: Iterable[tuple[Door, str]], heard: Heard) -> AsyncIterator[None]:
    """The same for topic filters, each heard by a process of its own."""
    async with AsyncExitStack() as stack:
        begun = [await stack.enter_async_context(_listener(door, topic, heard)) for door, topic in topics]
        await asyncio.sleep(SUBSCRIBES_SECONDS + EACH_SECONDS * len(begun))  # their subscriptions; nothing tells
        if ended := sum(process.returncode is not None for process in begun):
            raise RuntimeError(f"{ended} of {len(begun)} mosquitto_sub have ended; what they said stands above")
        yield


@asynccontextmanager
async def _listener(door: Door, topic: str, heard: Heard) -> AsyncIterator[asyncio.subprocess.Process]:
    command = ("mosquitto_sub", *door, "-q", "0", "-t", topic)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES)
    assert process.stdout is not None
    task = asyncio.create_task(_read(process.stdout, heard))
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        task.cancel()


async def _read(lines: asyncio.StreamReader, heard: Heard) -> None:
    async for line in lines:
        heard(line, time.monotonic())


def update(value: int, event: str = "") -> bytes:
    """A line of twin/update: the property `t` is `value`."""
    body = {
        "event_id": event or str(value),
        "twin": {"t": {"actual": {"value": str(value)}, "metadata": {"type": "int"}}},
    }
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


class Members:
    """Which devices the node's DeviceTwin has said it has, and when the last one came."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.last = 0.0

    def heard(self, line: bytes, at: float) -> None:
        """A message of membership/updated."""
        for device in json.loads(line)["added_devices"] or ():
            self.names.add(device["name"])
            self.last = at
