"""A hub, an API server, and replicas of the unit in between; the test plays CloudHub and the user with kubectl."""

import json
from contextlib import asynccontextmanager

import pytest

from canopy.bus.streams import LastValues
from canopy.contracts import catalogue
from canopy.contracts.devices import API_VERSION
from canopy.contracts.wire import DeviceState, PageAsk, SetAsk, Side, TwinRecord, TwinState, encode
from canopy.devicecontroller.settings import Settings
from canopy.devicecontroller.unit import DeviceController
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, NODES
from canopy.runtime.clock import SystemClock
from canopy.testing.controllers import Between, open_between
from canopy.testing.kubernetes import subjects


class Cloud:
    """What a test has in hand."""

    def __init__(self, between: Between) -> None:
        self.between = between
        self.hub, self.server, self.kube, self.bus = between.world.hub, between.server, between.kube, between.bus
        self.twins = LastValues(between.bus, "TWINS")
        self.pushes = []
        self.n = 0

    @asynccontextmanager
    async def replica(self, **settings):
        """A running DeviceController; the first one leads."""

        def build(env, kubeconfig):
            return DeviceController(env, Settings(kubeconfig=kubeconfig, lease_seconds=2.0, **settings), SystemClock())

        async with self.between.replica(build) as env:
            yield env

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
        return await self.between.got(resource, "default", name)

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


@pytest.fixture(params=subjects())
async def cloud(request, tmp_path):
    async with open_between(tmp_path, "devicecontroller", request.param) as between:
        made = Cloud(between)
        await made.twins.ensure()
        await between.bus.hear(catalogue.SET_PUSH, made._hear)
        yield made
