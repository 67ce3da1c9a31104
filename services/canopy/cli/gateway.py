"""A stock MQTT client at a node's gateway, as a device or an application there is: the demo's hand at the edge."""

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from canopy.contracts import catalogue as c
from canopy.contracts.subject import AnySubject

HOST = "127.0.0.1"
ANSWER_SECONDS = 3.0
TRIES = 5
REFUSED = 128
"""A SUBACK's code from which on it is a refusal."""


def topic(subject: AnySubject, **tokens: str) -> str:
    """The MQTT topic that the gateway makes this subject of."""
    return subject.at(**tokens).replace(subject.dot, "\0").replace(".", "/").replace("\0", ".")


class Gateway:
    """One device (`namespace`, `name`) on one node, spoken for over MQTT."""

    def __init__(self, client: Any, node: str, namespace: str, name: str) -> None:
        self._client, self._node = client, {"node": node}
        self._device = {"namespace": namespace, "name": name}
        self._waiting: dict[tuple[str, str], asyncio.Future[dict[str, Any]]] = {}

    async def device_names(self) -> list[str]:
        """Which devices the node has."""
        found = await self._ask(c.MEMBERSHIP_GET, c.MEMBERSHIP_RESULT, self._node, {})
        return [str(device.get("name")) for device in found.get("devices") or []]

    async def twin(self) -> dict[str, str]:
        """What the edge knows that the device is: actual values by property."""
        found = await self._ask(c.TWIN_GET, c.TWIN_GET_RESULT, self._device, {})
        twins = (found.get("twin") or {}).items()
        return {name: str(((t or {}).get("actual") or {}).get("value", "")) for name, t in twins}

    async def expected(self) -> dict[str, str]:
        """What the edge wants the device to be."""
        found = await self._ask(c.TWIN_GET, c.TWIN_GET_RESULT, self._device, {})
        wanted = {name: ((t or {}).get("expected") or {}).get("value") for name, t in (found.get("twin") or {}).items()}
        return {name: str(value) for name, value in wanted.items() if value is not None}

    async def report(self, name: str, value: str, kind: str) -> None:
        """Say that a property has a value, at QoS 1, until DeviceTwin answers. Raises RuntimeError if it refuses."""
        twin = {name: {"actual": {"value": value}, "metadata": {"type": kind}}}
        found = await self._ask(c.TWIN_UPDATE, c.TWIN_UPDATE_RESULT, self._device, {"twin": twin})
        if "code" in found:
            raise RuntimeError(f"the report was refused: {found['code']} {found.get('reason')}")

    async def _ask(
        self, asked: AnySubject, answered: AnySubject, tokens: dict[str, str], body: dict[str, Any]
    ) -> dict[str, Any]:
        """Publish, and wait for the result with our event_id; said again a few times, for who was not there yet."""
        for _ in range(TRIES):
            event, where = uuid.uuid4().hex, topic(answered, **tokens)
            future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
            self._waiting[where, event] = future
            await self._client.publish(topic(asked, **tokens), json.dumps({"event_id": event, **body}), qos=1)
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await future
            except TimeoutError:
                continue
            finally:
                self._waiting.pop((where, event), None)
        raise TimeoutError(f"no answer on {topic(answered, **tokens)} after {TRIES} tries of {ANSWER_SECONDS:g} s")

    async def subscribe(self) -> None:
        """Before anything is asked."""
        for subject, tokens in (
            (c.MEMBERSHIP_RESULT, self._node),
            (c.TWIN_GET_RESULT, self._device),
            (c.TWIN_UPDATE_RESULT, self._device),
        ):
            await self._subscribe(topic(subject, **tokens))

    async def _subscribe(self, where: str) -> None:
        """A gateway refuses when its leaf has just read its configuration. Raises RuntimeError where it always does."""
        for _ in range(TRIES):
            if all(code.value < REFUSED for code in await self._client.subscribe(where, qos=1)):
                return
        raise RuntimeError(f"the gateway refuses the subscription of {where}")

    async def listen(self) -> None:
        """Take what comes; until cancelled."""
        async for message in self._client.messages:
            body = json.loads(bytes(message.payload))
            future = self._waiting.get((str(message.topic), str(body.get("event_id"))))
            if future is not None and not future.done():
                future.set_result(body)


@contextlib.asynccontextmanager
async def connected(client: Any, node: str, namespace: str, name: str) -> AsyncIterator[Gateway]:
    """Connect `client` (an aiomqtt.Client) and listen."""
    async with client:
        gateway = Gateway(client, node, namespace, name)
        await gateway.subscribe()
        listening = asyncio.create_task(gateway.listen())
        try:
            yield gateway
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
