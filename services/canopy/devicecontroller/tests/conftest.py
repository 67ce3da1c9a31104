"""A hub, a kubeserve, and replicas of the unit in between; the test plays CloudHub and the user with kubectl."""

import asyncio
import json
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from canopy.bus import Bus, Connection
from canopy.bus.environment import Environment
from canopy.bus.streams import LastValues
from canopy.contracts import catalogue
from canopy.contracts.devices import API_VERSION
from canopy.contracts.wire import DeviceState, PageAsk, SetAsk, Side, TwinRecord, TwinState, encode
from canopy.devicecontroller.settings import Settings
from canopy.devicecontroller.unit import DeviceController
from canopy.kube.client import connect
from canopy.kube.errors import NotFound
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES
from canopy.kubeserve.server import KubeServe
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry
from canopy.testing.servers import hub
from canopy.testing.wait import until


@dataclass
class Cloud:
    """What a test has in hand."""

    hub: object
    server: KubeServe
    kube: object
    bus: Bus
    twins: LastValues
    pushes: list = field(default_factory=list)
    n: int = 0
    replicas: int = 0

    async def connection(self, unit):
        return await Connection.open(self.hub.client_url, name=unit, user=unit, password=self.hub.passwords[unit])

    @asynccontextmanager
    async def replica(self, **settings):
        """A running DeviceController; the first one leads."""
        connection = await self.connection("devicecontroller")
        telemetry, health = Telemetry("devicecontroller", enabled=False), Health("devicecontroller")
        env = Environment(Shared(), connection, telemetry, health)
        given = Settings(kubeconfig=str(self.server.kubeconfig), lease_seconds=2.0, **settings)
        unit, started = DeviceController(env, given, SystemClock()), asyncio.Event()
        task = asyncio.create_task(unit.run(started.set))
        waits = [task, asyncio.create_task(started.wait())]
        await asyncio.wait(waits, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        assert started.is_set()
        if self.replicas == 0:
            await until(lambda: "canopy_devicecontroller_leads 1" in env.metrics.text())
        self.replicas += 1
        try:
            yield env
        finally:
            self.replicas -= 1
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await connection.close()

    # --- Kubernetes
    async def device(self, name="d", node="a", model="m", **spec):
        meta = {"name": name, "namespace": "default"}
        body = {"nodeName": node, "deviceModelRef": {"name": model}, **spec}
        made = {"apiVersion": API_VERSION, "kind": "Device", "metadata": meta, "spec": body}
        return json.loads(await self.kube.create(DEVICES, "default", json.dumps(made).encode()))

    async def model(self, name="m"):
        meta = {"name": name, "namespace": "default"}
        made = {"apiVersion": API_VERSION, "kind": "DeviceModel", "metadata": meta, "spec": {"protocol": "modbus"}}
        await self.kube.create(DEVICE_MODELS, "default", json.dumps(made).encode())

    async def node(self, name="a"):
        made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        await self.kube.create(NODES, "", json.dumps(made).encode())

    async def move(self, name, node):
        await self.kube.patch(DEVICES, "default", name, json.dumps({"spec": {"nodeName": node}}).encode())

    async def got(self, resource, name="d"):
        try:
            return json.loads(await self.kube.get(resource, "default", name))
        except NotFound:
            return None

    async def status(self, name="d"):
        return (await self.got(DEVICE_STATUSES, name) or {}).get("status")

    async def value(self, name="d"):
        """The reported value of t in the DeviceStatus."""
        twins = (await self.status(name) or {}).get("twins") or [{}]
        return twins[0].get("reported", {}).get("value")

    async def ready(self, name="d"):
        """The reason of the Device's condition Ready."""
        found = ((await self.got(DEVICES, name)).get("status") or {}).get("conditions") or [{}]
        return found[0].get("reason")

    # --- CloudHub
    async def page(self, node="a", **ask):
        ask = SetAsk(node=node, ask=PageAsk(**ask))
        return await self.bus.ask(catalogue.SET_PAGE, ask, timeout=5, channel="devices")

    async def report(self, value, uid, name="d", node="a", device_revision=1):
        """Put a state into TWINS, as CloudHub does."""
        self.n += 1
        state = DeviceState(twins={"t": TwinState(reported=Side(value=value, timestamp=self.n))}, state="online")
        record = TwinRecord(
            node=node, namespace="default", name=name, uid=uid, device_revision=device_revision,
            session=1, n=self.n, revision=self.n, digest="x", received=0, state=state,
        )  # fmt: skip
        return await self.twins.put(catalogue.TWINS.at(node=node, namespace="default", name=name), encode(record), None)

    async def recorded(self, name="d", node="a"):
        return await self.twins.get(catalogue.TWINS.at(node=node, namespace="default", name=name))

    async def _hear(self, push, place):
        self.pushes.append((place["node"], push))


@pytest.fixture
async def cloud(tmp_path):
    async with AsyncExitStack() as stack:
        running = await hub(tmp_path / "hub", ("cloudhub", "devicecontroller"))
        stack.push_async_callback(running.server.kill)
        server = await stack.enter_async_context(KubeServe(tmp_path / "kube"))
        kube = await connect(server.kubeconfig)
        stack.push_async_callback(kube.close)
        url, secret = running.client_url, running.passwords["cloudhub"]
        connection = await Connection.open(url, name="cloudhub", user="cloudhub", password=secret)
        stack.push_async_callback(connection.close)
        bus = Bus(connection, "cloudhub", Telemetry("cloudhub", enabled=False))
        made = Cloud(running, server, kube, bus, LastValues(bus, "TWINS"))
        await made.twins.ensure()
        await bus.hear(catalogue.SET_PUSH, made._hear)
        yield made
