"""The system as the stories find it: its two edges (a DaemonSet's, and one outside of the cluster), Devices, load."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
import kubectl as k
from credentials import Contexts, Give
from players import Players
from seen import Seen, shown
from talk import Talk, device
from talk import talk as talking

API = "devices.kubeedge.io/v1beta1"
SETTLE_SECONDS = 4.0
CATCH_UP_SECONDS = 60.0
LOOK_SECONDS = 0.2
MODEL: k.Json = {
    "apiVersion": API,
    "kind": "DeviceModel",
    "metadata": {"name": "counter", "namespace": "default"},
    "spec": {
        "protocol": "mqtt",
        "properties": [
            {"name": "t", "type": "INT", "accessMode": "ReadWrite"},
            {"name": "level", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "100"},
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the devices of one node speak MQTT over TLS, each with a certificate that the node gave (`give`). `node` is
    its name in Kubernetes."""

    node: str
    host: str
    port: int
    give: Give = field(compare=False, repr=False)

    async def contexts(self, names: Sequence[str]) -> Contexts:
        """Of these devices, as soon as the node knows them."""
        found: Contexts = await until(
            f"{self.node} gives certificates to {names}", lambda: self.give(names), CATCH_UP_SECONDS
        )
        return found

    @contextlib.asynccontextmanager
    async def talk(self, name: str) -> AsyncIterator[Talk]:
        """Be the device `name`, as soon as it is let in."""
        context = (await self.contexts([name]))[name]

        async def let_in() -> bool:
            with contextlib.suppress(aiomqtt.MqttError):
                async with aiomqtt.Client(self.host, self.port, tls_context=context):
                    return True
            return False

        await until(f"{name} is let in at {self.node}", let_in, CATCH_UP_SECONDS)
        async with talking(self.port, device(name), context=context, host=self.host) as one:
            yield one

    async def players(self, names: Sequence[str], seed: int) -> Players:
        contexts = await self.contexts(names)
        return Players(self.port, names, random.Random(seed), host=self.host, contexts=contexts)


async def create(name: str, on: str, level: str = "") -> None:
    """A Device that speaks MQTT itself at node `on`."""
    wish = [{"name": "level", "desired": {"value": level}}] if level else []
    body = {
        "apiVersion": API,
        "kind": "Device",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "deviceModelRef": {"name": "counter"},
            "nodeName": on,
            "protocol": {"protocolName": "mqtt"},
            "properties": wish,
        },
    }
    await k.apply(MODEL, body)


async def until(what: str, condition: Callable[[], Any], seconds: float) -> Any:
    """What the coroutine function gives, once it is true; fails with the last. A kubectl that refuses, or hangs
    at a pod that is going, is false."""
    began, last = time.monotonic(), None
    while True:
        try:
            if last := await condition():
                return last
        except (k.Refused, TimeoutError) as refused:
            last = str(refused)
        if time.monotonic() - began > seconds:
            raise AssertionError(f"not after {seconds:g} s: {what}; last seen: {last}")
        await asyncio.sleep(LOOK_SECONDS)


async def until_shown(name: str, values: dict[str, str], seconds: float = CATCH_UP_SECONDS) -> None:
    """Wait until DeviceStatus shows these values."""

    async def so() -> bool:
        here = shown(await k.got("devicestatus", name, "-n", "default"))
        return all(here.get(p) == v for p, v in values.items())

    await until(f"DeviceStatus {name} shows {values}", so, seconds)


async def known(talk: Talk, seconds: float = CATCH_UP_SECONDS) -> None:
    """Wait until DeviceTwin answers for this device."""

    async def answers() -> bool:
        await talk.say("twin/get", {"event_id": "known"})
        with contextlib.suppress(TimeoutError):
            return "code" not in await talk.next("twin/get/result", 3)
        return False

    await until(f"the edge knows {talk.base}", answers, seconds)


class Load:
    """Devices of every edge that count while something happens, and what Kubernetes shows of them."""

    def __init__(self, players: Sequence[Players], seen: Seen) -> None:
        self._players, self.seen = players, seen

    @classmethod
    @contextlib.asynccontextmanager
    async def on(cls, edges: Sequence[Edge], each: int = 3) -> AsyncIterator["Load"]:
        """Devices of its own at each edge; they are deleted afterwards."""
        mark = uuid.uuid4().hex[:4]
        names = {edge: [f"load-{mark}-{i}-{n}" for n in range(each)] for i, edge in enumerate(edges)}
        for edge, own in names.items():
            for name in own:
                await create(name, edge.node)
        async with contextlib.AsyncExitStack() as stack:
            seen = await stack.enter_async_context(Seen().watching())
            players = [await edge.players(own, i) for i, (edge, own) in enumerate(names.items())]
            for player in players:
                await stack.enter_async_context(player.playing())
            yield cls(players, seen)
        await k.kubectl("delete", "devices", "-n", "default", *(name for own in names.values() for name in own))

    def answered(self) -> dict[str, int]:
        """The newest value of each device that was answered ok."""
        return {name: value for p in self._players for name, value in p.answered.items()}

    async def flows(self, what: str, seconds: float = CATCH_UP_SECONDS) -> float:
        """Wait until something newer than now of every device was answered and is shown; the seconds it took."""
        began, before = time.monotonic(), self.answered()

        async def more() -> bool:
            now = self.answered()
            return all(now[name] > before[name] for name in before)

        try:
            await until(f"reports are answered after {what}", more, seconds)
            await self.seen.reach({name: value + 1 for name, value in before.items()}, seconds)
        except AssertionError as failed:
            raise AssertionError(f"after {what}: {failed}") from None
        return time.monotonic() - began

    async def settle(self) -> str:
        """No more reports: what was answered is shown, no older value ever followed a newer one. Says the figures."""
        for player in self._players:
            player.pause()
        with contextlib.suppress(AssertionError):  # what was sent last may remain unanswered
            await until("all is answered", self._all_answered, SETTLE_SECONDS)
        answered = self.answered()
        seconds = await self.seen.reach(answered, CATCH_UP_SECONDS)
        assert not self.seen.older, f"an older value after a newer one: {'; '.join(self.seen.older)}"
        sent = sum(sum(p.sent.values()) for p in self._players)
        return (
            f"{sent} reports sent, the last answered of each of {len(answered)} devices shown after {seconds:.1f} s, "
            f"0 lost, {self.seen.changes} changes seen, 0 older after newer"
        )

    async def _all_answered(self) -> bool:
        return all(p.sent == p.answered for p in self._players)
