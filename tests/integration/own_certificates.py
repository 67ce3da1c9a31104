"""Devices that are known by certificates of their own: what a node's edgeidentity gives them, and what they report."""

import asyncio
import contextlib
import ssl
import uuid
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiomqtt
from talk import BACK_SECONDS, Talk, device, subscribed

from canopy.contracts import admin as words
from canopy.contracts.admin import AdminAnswer
from canopy.identity import ids
from canopy.identity.admin import ask
from canopy.identity.svid import Bundle, make_csr, new_key
from canopy.testing.system import System
from canopy.testing.wait import until

SAY_SECONDS = 5.0
COME_SECONDS = 30.0
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Device:
    """Of namespace default. `tls` is what it brings with it."""

    name: str
    port: int
    tls: ssl.SSLContext

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Talk]:
        """One connection, which does not come back by itself: what is said in the block goes over it, or fails. Raises
        aiomqtt.MqttError where it is not let in."""
        name = f"{self.name}-{uuid.uuid4().hex[:6]}"
        client = aiomqtt.Client("localhost", self.port, identifier=name, tls_context=self.tls, timeout=SAY_SECONDS)
        client.pending_calls_threshold = 1000
        async with client:
            talk = Talk(client, device(self.name))
            listening = asyncio.create_task(talk.listen())
            try:
                await subscribed(client, [f"{talk.base}/twin/{what}/result" for what in ("get", "update")])
                yield talk
            finally:
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await listening

    async def reports(self, keys: Iterable[str]) -> None:
        """As a device does: it comes again until it is let in, and says each report until the gateway has it."""
        left = list(keys)
        async with asyncio.timeout(COME_SECONDS):
            while left:
                with contextlib.suppress(aiomqtt.MqttError):
                    async with self.connected() as talk:
                        while left:
                            await report(talk, left[0])
                            del left[0]
                        return
                await asyncio.sleep(BACK_SECONDS)

    async def held(self) -> dict[str, str]:
        """What its twin holds, as it is told: values by key."""
        async with self.connected() as talk:
            return values(await talk.get())


@contextlib.asynccontextmanager
async def connected(devices: Iterable[Device]) -> AsyncIterator[list[Talk]]:
    """All of them at once."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(one.connected()) for one in devices]


async def report(talk: Talk, *keys: str, value: str = "1") -> None:
    """Each key in a report of its own, QoS 1: returns when the gateway has them."""
    await asyncio.gather(*(talk.say("twin/update", said(key, value)) for key in keys))


def said(key: str, value: str = "1") -> dict[str, Any]:
    """The body of a report."""
    twin = {key: {"actual": {"value": value}, "metadata": {"type": "string"}}}
    return {"event_id": uuid.uuid4().hex, "twin": twin}


def values(twin: dict[str, Any]) -> dict[str, str]:
    return {key: at["actual"]["value"] for key, at in twin.items() if "actual" in at}


async def provision(system: System, name: str, node: str) -> Device:
    """What `canopy device provision` does, on that node, as soon as it has heard of the device."""
    home, key = system.home(node), new_key()
    socket, whose = home.identity / "admin.sock", {"namespace": "default", "name": name}

    async def given() -> AdminAnswer | None:
        who = await ask(socket, words.WhoAsk(**whose))
        if who.verdict != words.OK:
            return None
        csr = make_csr(key, ids.parse(who.id)).decode()
        answer = await ask(socket, words.ProvisionAsk(**whose, csr=csr, ttl_seconds=DAY_SECONDS, by="test"))
        return answer if answer.verdict == words.OK else None

    answer: AdminAnswer = await until(given, COME_SECONDS)
    roots = b"".join(Bundle.read(answer.bundle.encode()).roots_pem).decode()
    return Device(name, home.mqtt_tls_port, await asyncio.to_thread(_context, home.folder / name, answer, key, roots))


def _context(folder: Path, answer: AdminAnswer, key: bytes, roots: str) -> ssl.SSLContext:
    folder.mkdir(exist_ok=True)
    pem = folder / "device.pem"
    pem.write_bytes(key + answer.chain.encode())
    context = ssl.create_default_context(cadata=roots)
    context.load_cert_chain(pem)
    return context
