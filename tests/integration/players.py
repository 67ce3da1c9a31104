"""Devices that count: each reports 1, 2, 3 ... over MQTT, and remembers what was answered. For stories of faults."""

import asyncio
import contextlib
import json
import random
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import aiomqtt
from talk import BACK_SECONDS, device, subscribed

from canopy.testing.wait import until

ANSWER_SECONDS = 3.0
SILENT = -1
Take = Callable[[list[str], Any], None]
"""Is given a topic's words, and what came."""


class Line:
    """One stock client, which comes back by itself; `client` while it is connected."""

    def __init__(self, topics: Iterable[str], take: Take, **how: Any) -> None:
        self.client: aiomqtt.Client | None = None
        self._topics, self._take, self._how = list(topics), take, how

    async def stay(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(aiomqtt.MqttError, OSError, TimeoutError):
                client = aiomqtt.Client(**self._how, identifier=f"p-{uuid.uuid4().hex[:8]}", timeout=3)
                client.pending_calls_threshold = 1000
                async with client:
                    await subscribed(client, self._topics)
                    self.client = client
                    async for message in client.messages:
                        self._take(str(message.topic).split("/"), json.loads(bytes(message.payload)))
            self.client = None
            await asyncio.sleep(BACK_SECONDS)


class Players:
    """The devices of one node; a third each of QoS 0, 1 and 2. They come back by themselves.

    `answered` and `sent` are the highest values by device. What was not answered is not said again: the next value is.
    `contexts` by name: each has a line of its own, by its own certificate; else all have one, at the plain port.
    """

    def __init__(
        self,
        port: int,
        names: Iterable[str],
        rng: random.Random,
        gap_seconds: float = 0.15,
        host: str = "127.0.0.1",
        contexts: Mapping[str, ssl.SSLContext] | None = None,
    ) -> None:
        self.names = list(names)
        self.sent = dict.fromkeys(self.names, 0)
        self.answered = dict.fromkeys(self.names, 0)
        self._rng, self._gap_seconds = rng, gap_seconds
        self._lines = _lines(self.names, self._take, {"hostname": host, "port": port}, contexts)
        self._got: dict[str, int] = {}
        self._came = {name: asyncio.Event() for name in self.names}
        self._going = asyncio.Event()
        self._going.set()

    @contextlib.asynccontextmanager
    async def playing(self) -> AsyncIterator["Players"]:
        tasks = [asyncio.create_task(line.stay()) for line in set(self._lines.values())]
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
                if name not in self._got and (client := self._lines[name].client) is not None:
                    with contextlib.suppress(aiomqtt.MqttError):
                        await client.publish(f"{device(name)}/twin/get", b'{"event_id": "held"}', timeout=1)
            await asyncio.sleep(0.1)
            return len(self._got) == len(self.names)

        await until(all_there, 10)
        return dict(self._got)

    def _take(self, topic: list[str], body: Any) -> None:
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
            client = self._lines[name].client
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


def _lines(
    names: list[str], take: Take, how: Mapping[str, Any], contexts: Mapping[str, ssl.SSLContext] | None
) -> dict[str, Line]:
    """By device."""
    if contexts is None:
        return dict.fromkeys(names, Line(_results("+/+"), take, **how))
    return {name: Line(_results(f"default/{name}"), take, **how, tls_context=contexts[name]) for name in names}


def _results(whose: str) -> list[str]:
    """What DeviceTwin answers: a device with a certificate may hear just its own, topic by topic."""
    return [f"$hw/events/device/{whose}/twin/{what}/result" for what in ("update", "get")]
