"""EdgeController between a real hub and an API server, with times of seconds; the test plays CloudHub and the nodes."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from canopy.contracts import catalogue
from canopy.contracts.wire import Presence
from canopy.edgecontroller.settings import Settings
from canopy.edgecontroller.unit import EdgeController
from canopy.kube.resource import LEASES, NODES
from canopy.runtime.clock import SystemClock
from canopy.testing.controllers import Between, open_between
from canopy.testing.kubernetes import subjects
from canopy.testing.wait import until

pytestmark = pytest.mark.server
SHORT = {"gone_after_seconds": 1.0, "renew_seconds": 0.2, "listen_first_seconds": 0.5, "lease_seconds": 5.0}


class Cloud:
    def __init__(self, between: Between) -> None:
        self.between, self.kube, self.bus = between, between.kube, between.bus

    @asynccontextmanager
    async def replica(self, **settings):
        """A running EdgeController; the first one leads."""

        def build(env, kubeconfig):
            return EdgeController(env, Settings(kubeconfig=kubeconfig, **{**SHORT, **settings}), SystemClock())

        async with self.between.replica(build) as env:
            yield env

    async def beat(self, node="e1", version="0.1"):
        presence = Presence(node=node, at=1, session=1, version=version)
        await self.bus.say(catalogue.PRESENCE, presence, node=node)

    @asynccontextmanager
    async def beating(self, node="e1"):
        async def beats():
            while True:
                await self.beat(node)
                await asyncio.sleep(0.1)

        task = asyncio.create_task(beats())
        try:
            yield
        finally:
            task.cancel()

    async def got(self, resource, name="e1"):
        return await self.between.got(resource, "kube-node-lease" if resource is LEASES else "", name)

    async def ready(self, name="e1"):
        """The condition Ready."""
        conditions = ((await self.got(NODES, name)) or {}).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == "Ready"), {})

    def is_ready(self, status):
        async def ready():
            return (await self.ready()).get("status") == status

        return lambda: ready()


GARBAGE_SECONDS = 60.0
"""It is Kubernetes that takes a Lease away with its Node, and its collector is busy with itself when it is young."""


@pytest.fixture(params=subjects())
async def cloud(request, tmp_path):
    async with open_between(tmp_path, "edgecontroller", request.param) as between:
        yield Cloud(between)


async def test_a_node_that_joins_is_ready_at_once_with_its_taint_and_lease(cloud):
    async with cloud.replica(listen_first_seconds=300.0):  # nothing is waited for
        async with cloud.beating():  # a node that says no more is gone after a second
            await until(cloud.is_ready("True"))
        node = await cloud.got(NODES)
        assert node["metadata"]["labels"]["node.canopy.dev/managed"] == "true"
        # A real API server adds `not-ready`, which a cluster's node controller takes away once the Node is Ready.
        assert {"key": "node.canopy.dev/edge", "effect": "NoSchedule"} in node["spec"]["taints"]
        lease = await until(lambda: cloud.got(LEASES))
        assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]


async def test_a_silent_node_is_unknown_and_comes_back(cloud):
    async with cloud.replica():
        async with cloud.beating():
            await until(cloud.is_ready("True"))
            first = (await until(lambda: cloud.got(LEASES)))["spec"]["renewTime"]
            await until(lambda: _renewed(cloud, first))
        await until(cloud.is_ready("Unknown"))
        gone = await cloud.ready()
        assert gone["reason"] == "NodeStatusUnknown" and "last heard" in gone["message"]
        async with cloud.beating():
            await until(cloud.is_ready("True"))


async def test_a_node_that_beats_stays_ready_and_its_status_is_not_written_again(cloud):
    async with cloud.replica(renew_seconds=0.5, gone_after_seconds=5.0) as env, cloud.beating():
        await until(cloud.is_ready("True"))
        version = (await cloud.got(NODES))["metadata"]["resourceVersion"]
        writes = env.metrics.counter("canopy_edgecontroller_writes_total", "")
        before = writes.value(what="Renew")
        await until(lambda: writes.value(what="Renew") >= before + 3)
        assert (await cloud.got(NODES))["metadata"]["resourceVersion"] == version


async def test_a_new_leader_goes_by_the_leases_and_says_gone_of_whom_it_cannot_hear(cloud):
    async with cloud.replica(), cloud.beating():
        await until(lambda: cloud.got(LEASES))
    async with cloud.replica():
        await until(cloud.is_ready("Unknown"))


async def test_another_replica_goes_on_without_calling_anyone_gone(cloud):
    turned = []
    async with cloud.beating():
        async with cloud.replica():
            await until(cloud.is_ready("True"))
            second = cloud.replica()
            env = await second.__aenter__()
        try:
            await until(lambda: "canopy_edgecontroller_leads 1" in env.metrics.text())
            before = (await cloud.got(LEASES))["spec"]["renewTime"]
            await until(lambda: _renewed(cloud, before))
            turned.append((await cloud.ready())["lastTransitionTime"])
            assert (await cloud.ready())["status"] == "True"
        finally:
            await second.__aexit__(None, None, None)


async def test_a_kubelets_node_of_the_same_name_is_left_alone(cloud):
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "e1"}}
    await cloud.kube.create(NODES, "", json.dumps(made).encode())
    async with cloud.replica() as env:
        await cloud.beat()
        heard = env.metrics.counter("canopy_edgecontroller_heard_total", "")
        await until(heard.value)
        async with cloud.beating("e2"):
            await until(lambda: cloud.got(NODES, "e2"))
        assert await cloud.ready("e1") == {} and await cloud.got(LEASES) is None


async def test_a_node_that_someone_deleted_comes_back_with_its_next_beat(cloud):
    async with cloud.replica():
        async with cloud.beating():
            await until(lambda: cloud.got(LEASES))
        await until(cloud.is_ready("Unknown"))  # else what was heard just now brings it back at once
        await cloud.kube.delete(NODES, "", "e1")
        await until(lambda: _gone(cloud), GARBAGE_SECONDS)
        async with cloud.beating():
            await until(cloud.is_ready("True"))
            await until(lambda: cloud.got(LEASES))


async def _renewed(cloud, before):
    return (await cloud.got(LEASES))["spec"]["renewTime"] > before


async def _gone(cloud):
    return await cloud.got(LEASES) is None
