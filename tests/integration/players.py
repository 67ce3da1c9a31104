"""Devices that count: each reports 1, 2, 3 ... over MQTT, and remembers what was answered. For stories of faults."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Iterable

import aiomqtt
from talk import device

from canopy.testing.wait import until

ANSWER_SECONDS = 3.0
BACK_SECONDS = 0.2
SILENT = -1


class Players:
    """The devices of one node over one stock client, which comes back by itself; a third each of QoS 0, 1 and 2.

    `answered` and `sent` are the highest values by device. What was not answered is not said again: the next value is.
    `password` is the user `devices`' where the gateway asks for one.
    """

    def __init__(
        self,
        port: int,
        names: Iterable[str],
        rng: random.Random,
        gap_seconds: float = 0.15,
        host: str = "127.0.0.1",
        password: str = "",
    ) -> None:
        self.names = list(names)
        self.sent = dict.fromkeys(self.names, 0)
        self.answered = dict.fromkeys(self.names, 0)
        self._host, self._port, self._rng, self._gap_seconds = host, port, rng, gap_seconds
        self._login = {"username": "devices", "password": password} if password else {}
        self._client: aiomqtt.Client | None = None
        self._got: dict[str, int] = {}
        self._came = {name: asyncio.Event() for name in self.names}
        self._going = asyncio.Event()
        self._going.set()

    @contextlib.asynccontextmanager
    async def playing(self) -> AsyncIterator["Players"]:
        tasks = [asyncio.create_task(self._stay())]
        tasks += [asyncio.create_task(self._count(i, name)) for i, name in enumerate(self.names)]
        try:
            yield self
        finally:
            while tasks:  # a publish that ends just then swallows its cancelling: once is not enough
                for task in tasks:
                    task.cancel()
                tasks = list((await asyncio.wait(tasks, timeout=1))[1])

    def pause(self) -> None:
        """No further reports; one that is on its way may still be answered."""
        self._going.clear()

    def go(self) -> None:
        self._going.set()

    async def held(self) -> dict[str, int]:
        """What DeviceTwin holds of each device, asked of it: SILENT where it knows none of that name."""
        self._got.clear()

        async def all_there() -> bool:
            for name in self.names:
                if name not in self._got and self._client is not None:
                    with contextlib.suppress(aiomqtt.MqttError):
                        await self._client.publish(f"{device(name)}/twin/get", b'{"event_id": "held"}', timeout=1)
            await asyncio.sleep(0.1)
            return len(self._got) == len(self.names)

        await until(all_there, 10)
        return dict(self._got)

    async def _stay(self) -> None:
        while True:
            with contextlib.suppress(aiomqtt.MqttError, OSError, TimeoutError):
                name = f"p-{uuid.uuid4().hex[:8]}"
                client = aiomqtt.Client(self._host, self._port, identifier=name, timeout=3, **self._login)
                client.pending_calls_threshold = 1000
                async with client:
                    await client.subscribe([("$hw/events/device/+/+/twin/+/result", 1)])
                    self._client = client
                    async for message in client.messages:
                        self._take(str(message.topic).split("/"), json.loads(bytes(message.payload)))  # type: ignore[arg-type]
            self._client = None
            await asyncio.sleep(BACK_SECONDS)

    def _take(self, topic: list[str], body: dict[str, object]) -> None:
        name, event = topic[4], str(body.get("event_id"))
        if name not in self.sent:
            return
        if topic[-2] == "get":
            twin = body.get("twin")
            value = twin.get("t", {}).get("actual", {}).get("value", "0") if isinstance(twin, dict) else SILENT
            self._got[name] = int(value)
        elif event.isdecimal():
            if "code" not in body:
                self.answered[name] = max(self.answered[name], int(event))
            self._came[name].set()  # a refusal is an answer too: the next value is said at once

    async def _count(self, at: int, name: str) -> None:
        while True:
            await asyncio.sleep(self._gap_seconds * self._rng.uniform(0.5, 1.5))
            await self._going.wait()
            client = self._client
            if client is None:
                continue
            self.sent[name] += 1
            value = str(self.sent[name])
            twin = {"t": {"actual": {"value": value}, "metadata": {"type": "int"}}}
            self._came[name].clear()
            with contextlib.suppress(aiomqtt.MqttError, TimeoutError):
                body = json.dumps({"event_id": value, "twin": twin})
                await client.publish(f"{device(name)}/twin/update", body, qos=at % 3, timeout=ANSWER_SECONDS)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._came[name].wait()
