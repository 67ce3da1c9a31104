"""A node for the tests of the unit: a real nats-server on the unit's own configuration, this unit and DeviceTwin on it,
MetaManager's set in the hand of the test, and devices that are stock MQTT clients with certificates of the node.
"""

import asyncio
import contextlib
import json
import random
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiomqtt
import msgspec
import pytest

from canopy.bus import Bus, Connection, Place
from canopy.bus.environment import Environment
from canopy.contracts import catalogue as c
from canopy.contracts.wire import AsOf, Entry, PageAnswer, PageAsk, Put, SetChanged
from canopy.devicetwin.settings import Settings as TwinSettings
from canopy.devicetwin.unit import DeviceTwin
from canopy.edgeidentity import prepare
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.settings import Settings
from canopy.edgeidentity.unit import EdgeIdentity
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import write_identity
from canopy.identity.sources import FileSource
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health, Metrics
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry
from canopy.sync.down import Wanted
from canopy.sync.sets import digest
from canopy.testing.child import HOST, free_port
from canopy.testing.clock import FrozenClock
from canopy.testing.domain import TD, minted
from canopy.testing.servers import NatsServer
from canopy.testing.wait import until
from canopy.testing.world import NODE, running

LEAF = ids.local(TD, NODE, "leaf")
TOPIC = "$hw/events/device/default/"


def put(name: str) -> Put:
    """A Device as MetaManager hands it on."""
    body = {
        "metadata": {"name": name, "namespace": "default", "uid": f"u-{name}", "resourceVersion": "7"},
        "spec": {"deviceModelRef": {"name": "light"}, "properties": []},
    }
    raw = json.dumps(body).encode()
    return Put(Entry("Device", "default", name, f"u-{name}", digest(raw)), msgspec.Raw(raw))


class Meta:
    """Answers page asks with the set that the test gives it."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._wanted = bus, Wanted(())
        self.names: tuple[str, ...] = ()
        self._at = time.time_ns()

    async def open(self) -> None:
        await self._bus.serve(c.META_PAGE, self._page)

    async def set(self, *names: str) -> None:
        self._wanted, self._at, self.names = Wanted(map(put, names)), self._at + 1, names
        await self._bus.say(c.META_CHANGED, SetChanged(as_of=self._as_of(), hash=self._wanted.hash), channel="devices")

    def _as_of(self) -> AsOf:
        return AsOf(epoch=1, revisions={"Device": self._at})

    async def _page(self, ask: PageAsk, place: Place[PageAsk]) -> PageAnswer:
        return self._wanted.answer(ask, self._as_of())


class Device:
    """An MQTT client with a certificate, that says and hears on its own topics."""

    def __init__(self, client: aiomqtt.Client, name: str) -> None:
        self.client, self.name = client, name
        self.heard: list[tuple[str, Any]] = []

    async def say(self, key: str, value: str) -> None:
        """Report one property, QoS 1."""
        twin = {key: {"actual": {"value": value}, "metadata": {"type": "string"}}}
        await self.client.publish(f"{TOPIC}{self.name}/twin/update", json.dumps({"twin": twin}), qos=1)

    async def twin(self) -> dict[str, str]:
        """The values that DeviceTwin holds."""
        event = uuid.uuid4().hex
        body = json.dumps({"event_id": event})
        await self.client.publish(f"{TOPIC}{self.name}/twin/get", body, qos=0)

        def answer() -> Any:
            return [b for t, b in self.heard if t.endswith("/twin/get/result") and b["event_id"] == event]

        found = (await until(answer))[0]["twin"]
        return {key: value["actual"]["value"] for key, value in found.items() if "actual" in value}

    async def listen(self) -> None:
        async for message in self.client.messages:
            self.heard.append((str(message.topic), json.loads(bytes(message.payload))))  # type: ignore[arg-type]


class Node:
    """What runs on it may be stopped and started again, one by one."""

    def __init__(self, directory: Path, link_age_seconds: int = 0, **settings: Any) -> None:
        self.directory, self._link_age_seconds = directory, link_age_seconds
        self.port, self.mqtt_port = free_port(), free_port()
        given = {"source": "files", "hub_url": "tls://127.0.0.1:9", "look_seconds": 0.05, **settings}
        listens = {"leaf_listen": f"{HOST}:{self.port}", "mqtt_listen": f"{HOST}:{self.mqtt_port}"}
        self.settings = Settings(**listens, **given)
        self.shared = Shared(node_name=NODE, nats_url=f"nats://{HOST}:{self.port}", data_dir=directory)
        self.folders = Folders.of(self.settings, directory)
        self.files: prepare.Node
        self.health = Health("edgeidentity")
        self.stack = AsyncExitStack()
        self.units: dict[str, AsyncExitStack] = {}
        self.leaf: NatsServer
        self.meta: Meta
        self.identity: EdgeIdentity
        self.lost: list[str] = []

    async def open(self) -> None:
        """Files, the leaf, MetaManager; no unit yet."""
        await self.link()
        await self._begin()
        self.leaf = NatsServer(self.folders.config.read_text(), self.folders.root, (self.port, self.mqtt_port))
        self.stack.push_async_callback(self.leaf.kill)
        await self.leaf.start()
        await self._meta()

    async def _begin(self) -> None:
        """What a process with this unit does before it connects."""
        self.files = prepare.Node(self.shared, self.settings, SystemClock(), random.Random(1))
        self._prepared = AsyncExitStack()
        await self._prepared.enter_async_context(self.files.prepared())

    async def _meta(self) -> None:
        self.meta = Meta(await self.bus("metamanager", self._prepared))
        await self.meta.open()

    async def machine_restarts(self) -> None:
        """All of it ends and begins anew, MetaManager with its set of before."""
        units = list(self.units)
        await self.units_end()
        await self.leaf.kill()
        await self.leaf.start()  # it does not wait for anybody
        await self.units_begin(*units)

    async def units_end(self) -> None:
        """The leaf is left alone."""
        await self.stop(*reversed(list(self.units)))
        await self._prepared.aclose()

    async def units_begin(self, *units: str) -> None:
        names = self.meta.names
        await self._begin()
        await self._meta()
        await self.meta.set(*names)
        await self.start(*units)

    async def link(self) -> None:
        """A certificate of the link, as the fleet gave it: last `link_age_seconds` ago, for a minute."""
        clock = FrozenClock(time.time_ns() // 1_000_000 - self._link_age_seconds * 1000)
        fleet = Builtin(self.directory / "fleet", TD, ca_ttl_seconds=600, clock=clock)
        write_identity(self.folders.link, await minted(fleet, ids.node(TD, NODE), 60))

    async def aged(self, life: float) -> None:
        """Before `open`: the node's authority is not new, but so much of its root's life is over."""
        ttl = self.settings.ca_ttl_seconds
        clock = FrozenClock(time.time_ns() // 1_000_000 - round(life * ttl * 1000))
        domain = ids.node_domain(TD, NODE)
        authority = Builtin(self.folders.authority, domain, ca_ttl_seconds=ttl, clock=clock)
        for _ in range(20):
            await authority.bundle()
            clock.step(life * ttl / 20)

    async def connection(self, unit: str, stack: AsyncExitStack | None = None) -> Connection:
        source, name = FileSource(self.folders.unit(unit)), f"{unit}@{NODE}"
        url = self.shared.nats_url
        found = await Connection.open(url, name=name, identity=source, expected=frozenset({LEAF}))
        found.on_lost(lambda: self.lost.append(unit))
        (stack or self.stack).push_async_callback(found.close, False)
        return found

    async def bus(self, unit: str, stack: AsyncExitStack | None = None) -> Bus:
        bus = Bus(await self.connection(unit, stack), unit, Telemetry(unit, enabled=False))
        await bus.open()
        return bus

    async def start(self, *units: str) -> None:
        """Run edgeidentity or devicetwin until `stop`."""
        for unit in units:
            self.units[unit] = stack = AsyncExitStack()
            shared = self.shared.model_copy(update={"identity_dir": str(self.folders.unit(unit))})
            connection, telemetry = await self.connection(unit, stack), Telemetry(unit, enabled=False)
            health = self.health if unit == "edgeidentity" else Health(unit)
            env = Environment(shared, connection, telemetry, health, Metrics())
            await stack.enter_async_context(running(self._build(unit, env)))

    def _build(self, unit: str, env: Environment) -> Any:
        if unit == "devicetwin":
            return DeviceTwin(env, TwinSettings())
        self.identity = EdgeIdentity(env, self.settings, SystemClock(), random.Random(2))
        return self.identity

    async def stop(self, *units: str) -> None:
        for unit in units:
            await self.units.pop(unit).aclose()

    async def close(self) -> None:
        await self.stop(*reversed(list(self.units)))
        await self._prepared.aclose()
        await self.stack.aclose()

    def gate(self) -> str:
        """What the gate waits for; "" while it is open."""
        return next((check.detail for check in self.health.checks if check.check == "gate"), "not said")

    async def opened(self) -> None:
        await until(lambda: not self.gate())

    # --- devices ------------------------------------------------------------------------------------------------------
    async def tls(self, name: str, authority: Builtin | None = None, id: ids.SpiffeId | None = None) -> ssl.SSLContext:
        """What a device that was just given a certificate brings with it: a stock context, the host name checked."""
        id, path = id or ids.device(TD, NODE, "default", name), self.directory / f"{name}.pem"
        path.write_bytes((await minted(authority or self.files.authority, id, 600)).svid.pem)
        context = ssl.create_default_context(cafile=str(self.folders.leaf / "bundle.pem"))
        context.load_cert_chain(path)
        return context

    @asynccontextmanager
    async def device(self, name: str, tls: ssl.SSLContext | None = None, seconds: float = 10) -> AsyncIterator[Device]:
        """Raises aiomqtt.MqttError where it is not let in."""
        context = tls or await self.tls(name)
        who = f"{name}-{uuid.uuid4().hex[:6]}"
        async with aiomqtt.Client(
            "localhost", self.mqtt_port, identifier=who, tls_context=context, timeout=seconds
        ) as client:
            client.pending_calls_threshold = 1000
            one = Device(client, name)
            listening = asyncio.create_task(one.listen())
            await client.subscribe(f"{TOPIC}{name}/twin/get/result")
            try:
                yield one
            finally:
                listening.cancel()
                with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                    await listening

    async def let_in(self, name: str, tls: ssl.SSLContext | None = None, seconds: float = 10) -> bool:
        """Whether the device is let in now; a refusal in the handshake is one that takes `seconds`."""
        try:
            async with self.device(name, tls, seconds):
                return True
        except aiomqtt.MqttError:
            return False


@pytest.fixture
async def open_node(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """`await open_node(svid_ttl_seconds=2, ...)`: a node with these settings of edgeidentity, its leaf running."""
    opened: list[Node] = []

    async def open_one(root_life: float = 0, **settings: Any) -> Node:
        found = Node(tmp_path / "node", **settings)
        if root_life:
            await found.aged(root_life)
        opened.append(found)
        await found.open()
        return found

    yield open_one
    for node in opened:
        await node.close()
