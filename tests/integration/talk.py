"""A stock MQTT client that plays one device, or listens as an application would."""

import asyncio
import contextlib
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiomqtt

ANSWER_SECONDS = 8.0
COME_SECONDS = 30.0
BACK_SECONDS = 0.2
REFUSED = 128
HEARD = ("twin/update/result", "twin/update/document", "twin/update/delta", "twin/get/result", "state/update/result")
"""What a device with a certificate may hear: all of its own that is said to it."""


class Talk:
    """Speaks and listens below one topic (`base`); keeps what came, in order."""

    def __init__(self, client: aiomqtt.Client, base: str) -> None:
        self._client, self.base = client, base
        self.heard: list[tuple[str, Any]] = []
        self._taken: dict[str, int] = {}
        self._came = asyncio.Condition()

    async def say(self, suffix: str, payload: Any, qos: int = 1) -> None:
        """Publish `payload` (JSON, or bytes as they are) on `base/suffix`."""
        await self.say_at(f"{self.base}/{suffix}", payload, qos)

    async def say_at(self, topic: str, payload: Any, qos: int = 1) -> None:
        """The same, on any topic."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        await self._client.publish(topic, body, qos=qos)

    async def next(self, suffix: str, seconds: float = ANSWER_SECONDS) -> Any:
        """The next message on `base/suffix` that was not taken yet."""
        async with asyncio.timeout(seconds), self._came:
            await self._came.wait_for(lambda: self._waiting(suffix) is not None)
            at = self._waiting(suffix)
            assert at is not None
            self._taken[suffix] = at + 1
            return self.heard[at][1]

    def _waiting(self, suffix: str) -> int | None:
        first = self._taken.get(suffix, 0)
        return next((i for i in range(first, len(self.heard)) if self.heard[i][0] == suffix), None)

    async def update(self, twin: dict[str, Any], event: str | None = None, qos: int = 1) -> Any:
        """Say a twin/update and return its result."""
        event = event or uuid.uuid4().hex[:8]
        await self.say("twin/update", {"event_id": event, "twin": twin}, qos)
        result = await self.next("twin/update/result")
        assert result["event_id"] == event
        return result

    async def get(self) -> Any:
        await self.say("twin/get", {"event_id": "get"})
        return (await self.next("twin/get/result"))["twin"]

    def silent(self, suffix: str) -> bool:
        """True if nothing waits on `base/suffix`."""
        return self._waiting(suffix) is None

    async def listen(self) -> None:
        async for message in self._client.messages:
            topic = str(message.topic)
            if topic.startswith(self.base + "/"):
                async with self._came:
                    self.heard.append((topic[len(self.base) + 1 :], _decoded(message.payload)))
                    self._came.notify_all()


def _decoded(payload: Any) -> Any:
    """JSON, or the bytes as they are: a client hears its own bad messages too."""
    try:
        return json.loads(payload)
    except ValueError:
        return payload


@contextlib.asynccontextmanager
async def talk(
    port: int, base: str, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Talk]:
    """Connect to the gateway and subscribe what there is below `base`: by the certificate in `context`, as that device,
    else at the plain port. Raises aiomqtt.MqttError where it is never let in."""
    how: dict[str, Any] = {"hostname": host, "port": port, "tls_context": context, "timeout": ANSWER_SECONDS}
    deadline = time.monotonic() + COME_SECONDS
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                one = await _came(stack, base, list(HEARD if context else ("#",)), how)
                break
            except aiomqtt.MqttError:  # as a device does: it comes again
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(BACK_SECONDS)
        yield one


async def _came(stack: contextlib.AsyncExitStack, base: str, topics: list[str], how: dict[str, Any]) -> Talk:
    """Once. Raises aiomqtt.MqttError."""
    async with contextlib.AsyncExitStack() as trying:
        client = aiomqtt.Client(**how, identifier=f"test-{uuid.uuid4().hex[:8]}")
        one = Talk(await trying.enter_async_context(client), base)
        trying.push_async_callback(_ended, asyncio.create_task(one.listen()))
        await subscribed(client, [f"{base}/{topic}" for topic in topics])
        stack.push_async_exit(trying.pop_all())
    return one


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
        await task


async def subscribed(client: aiomqtt.Client, topics: Iterable[str]) -> None:
    """With QoS 1, as a device should: it looks at what the gateway answers, which refuses where the leaf has just read
    its configuration. Raises aiomqtt.MqttError."""
    codes = await client.subscribe([(topic, 1) for topic in topics])
    if any(code.value >= REFUSED for code in codes):
        raise aiomqtt.MqttError("a subscription was refused")


def device(name: str, namespace: str = "default") -> str:
    return f"$hw/events/device/{namespace}/{name}"


def node(name: str) -> str:
    return f"$hw/events/node/{name}"
