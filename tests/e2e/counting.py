"""One device that counts over MQTT with a certificate of its own, as `players` do for many: it reports 1, 2, 3 ..., and
remembers what was answered. It comes back by itself."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator

import aiomqtt
from talk import device, subscribed

from canopy.testing.wait import until

ANSWER_SECONDS, GAP_SECONDS, BACK_SECONDS = 3.0, 0.2, 0.3


class Counting:
    """`sent` and `answered` are the highest values; `refused` what ended the last connection, empty while it stands."""

    def __init__(self, name: str, port: int, tls: ssl.SSLContext) -> None:
        self.name, self.sent, self.answered, self.refused = name, 0, 0, "not yet tried"
        self._port, self._tls = port, tls
        self._came = asyncio.Event()

    @contextlib.asynccontextmanager
    async def counts(self) -> AsyncIterator["Counting"]:
        task = asyncio.create_task(self._stay())
        try:
            yield self
        finally:
            while not task.done():  # a publish that ends just then swallows its cancelling: once is not enough
                task.cancel()
                await asyncio.wait({task}, timeout=1)
            await asyncio.gather(task, return_exceptions=True)

    async def goes_on(self, seconds: float = 30.0) -> int:
        """Wait until something newer than now was answered; that value."""
        was = self.answered
        try:
            await until(lambda: self.answered > was + 1, seconds)
        except TimeoutError:
            why = self.refused or "connected, and not answered"
            raise AssertionError(
                f"{self.name}: {was} answered, {self.sent} sent, no more in {seconds:g} s: {why}"
            ) from None
        return self.answered

    async def _stay(self) -> None:
        while True:
            try:
                client = aiomqtt.Client("localhost", self._port, identifier=self.name, timeout=3, tls_context=self._tls)
                async with client, asyncio.TaskGroup() as tasks:
                    await subscribed(client, [f"{device(self.name)}/twin/update/result"])
                    self.refused = ""
                    tasks.create_task(self._hear(client))
                    tasks.create_task(self._count(client))
            except* (aiomqtt.MqttError, OSError, TimeoutError) as errors:
                self.refused = f"{errors.exceptions[0]!r}"
            await asyncio.sleep(BACK_SECONDS)

    async def _hear(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            body = json.loads(bytes(message.payload))  # type: ignore[arg-type]
            if "code" not in body and str(body.get("event_id")).isdecimal():
                self.answered = max(self.answered, int(body["event_id"]))
            self._came.set()

    async def _count(self, client: aiomqtt.Client) -> None:
        while True:
            self.sent += 1
            value = str(self.sent)
            twin = {"t": {"actual": {"value": value}, "metadata": {"type": "int"}}}
            self._came.clear()
            await client.publish(
                f"{device(self.name)}/twin/update", json.dumps({"event_id": value, "twin": twin}), qos=1
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    await self._came.wait()
            await asyncio.sleep(GAP_SECONDS)
