"""The shell with a fake Kubernetes and a frozen clock."""

import asyncio
import json
import logging
from contextlib import asynccontextmanager, suppress

from canopy.contracts.wire import Presence
from canopy.edgecontroller.bodies import read_node
from canopy.edgecontroller.core import Rules
from canopy.edgecontroller.counts import Counts
from canopy.edgecontroller.handlers import NodeWriter
from canopy.edgecontroller.lead import Lead
from canopy.edgecontroller.replica import FORGET_MS, Replica
from canopy.edgecontroller.settings import Settings
from canopy.kube.api import Listed
from canopy.kube.errors import AlreadyExists, Conflict, NotFound, Unavailable
from canopy.kube.resource import LEASES
from canopy.runtime.metrics import Metrics
from canopy.testing.clock import FrozenClock


class Kube:
    """Nodes and Leases; every write of a Node goes to `told`, as an informer would."""

    def __init__(self):
        self.objects, self.version, self.told, self.failures = {}, 1, lambda name, node: None, []
        self.writes = []

    async def list(self, resource, namespace, label_selector=""):
        found = [v for (kind, _), v in self.objects.items() if kind == resource.plural]
        return Listed(tuple(json.dumps(v).encode() for v in found), self.version)

    async def create(self, resource, namespace, body):
        made = json.loads(body)
        name = made["metadata"]["name"]
        if (resource.plural, name) in self.objects:
            raise AlreadyExists(name)
        return self._put(resource, name, made)

    async def patch(self, resource, namespace, name, body, subresource=""):
        if (resource.plural, name) not in self.objects:
            raise NotFound(name)
        patch, old = json.loads(body), self.objects[(resource.plural, name)]
        expected = patch.get("metadata", {}).pop("resourceVersion", None)
        if expected not in (None, old["metadata"]["resourceVersion"]):
            raise Conflict(name)
        return self._put(
            resource, name, {k: {**old.get(k, {}), **patch.get(k, {})} for k in {*old, *patch} - {"apiVersion", "kind"}}
        )

    def _put(self, resource, name, made):
        if self.failures:
            raise self.failures.pop()
        self.version += 1
        self.writes.append((resource.plural, name))
        made["metadata"] |= {"uid": f"uid-{name}", "resourceVersion": str(self.version)}
        self.objects[(resource.plural, name)] = made
        raw = json.dumps(made).encode()
        if resource is not LEASES:
            self.told(name, read_node(raw))
        return raw

    def ready(self, name):
        return read_node(json.dumps(self.objects[("nodes", name)]).encode()).ready


class Place(dict):
    """The tokens of a subject."""


@asynccontextmanager
async def leading(kube, clock, replica, **settings):
    counts, given = Counts(Metrics()), Settings(**settings)
    writer = NodeWriter(replica, kube, clock, Rules(), given.allowed, lambda: True, counts)
    task = asyncio.create_task(Lead(replica, writer, given, clock, counts).run())
    await clock.advance(0)
    yield
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def world():
    clock, kube = FrozenClock(), Kube()
    replica = Replica(clock, Counts(Metrics()))
    replica.synced, kube.told = True, replica.node
    return clock, kube, replica


async def beat(replica, node="e1", body="", **said):
    await replica.hear(Presence(node=body or node, at=0, session=1, version="1", **said), Place(node=node))


async def test_a_node_is_unknown_forty_seconds_after_its_last_word_and_not_earlier():
    clock, kube, replica = world()
    async with leading(kube, clock, replica):
        for _ in range(4):
            await beat(replica)
            await clock.advance(10)
        assert kube.ready("e1") == "True"
        await clock.advance(29.5)
        assert kube.ready("e1") == "True"
        await clock.advance(1)
        assert kube.ready("e1") == "Unknown"


async def test_a_steady_node_costs_one_renewal_every_ten_seconds_and_one_status_every_five_minutes():
    clock, kube, replica = world()
    async with leading(kube, clock, replica):
        await beat(replica)
        await clock.advance(1)
        kube.writes.clear()
        for _ in range(120):
            await clock.advance(5)
            await beat(replica)
        await clock.advance(1)
        assert kube.writes.count(("leases", "e1")) <= 60
        assert kube.writes.count(("nodes", "e1")) == 2


async def test_many_renewals_hold_no_new_node_back():
    clock, kube, replica = world()
    async with leading(kube, clock, replica, renewals_per_second=1.0):
        for i in range(50):
            await beat(replica, f"old{i}")
        await clock.advance(1)
        await beat(replica, "new")
        await clock.advance(1)
        assert kube.ready("new") == "True" and kube.writes.count(("leases", "new")) == 0


async def test_what_fails_is_tried_again():
    clock, kube, replica = world()
    kube.failures = [Unavailable("away")] * 3
    async with leading(kube, clock, replica):
        await beat(replica)
        await clock.advance(5)
        assert kube.ready("e1") == "True"


async def test_the_node_is_the_subjects_and_never_the_bodys():
    clock, kube, replica = world()
    async with leading(kube, clock, replica):
        await beat(replica, "e1", body="victim")
        await clock.advance(1)
        assert [name for _, name in kube.writes if name == "victim"] == []


async def test_after_the_hub_was_away_everyone_is_heard_first():
    clock, kube, replica = world()
    async with leading(kube, clock, replica):
        await clock.advance(30)
        await beat(replica)
        await clock.advance(5)
        replica.connected(False)
        await clock.advance(60)
        assert kube.ready("e1") == "True"
        replica.connected(True)
        await clock.advance(20)
        assert kube.ready("e1") == "True"


async def test_a_foreign_node_is_mentioned_once(caplog):
    clock, kube, replica = world()
    kube.objects[("nodes", "e1")] = {"metadata": {"name": "e1", "uid": "k", "resourceVersion": "1"}}
    replica.node("e1", read_node(json.dumps(kube.objects[("nodes", "e1")]).encode()))
    with caplog.at_level(logging.WARNING):
        async with leading(kube, clock, replica):
            for _ in range(3):
                await beat(replica)
                await clock.advance(10)
    assert kube.writes == [] and len([r for r in caplog.records if "left alone" in r.message]) == 1


async def test_a_name_that_became_no_node_is_forgotten():
    clock, _, replica = world()
    await beat(replica)
    replica.forget()
    assert "e1" in replica.heard
    await clock.advance(FORGET_MS / 1000 + 1)
    replica.forget()
    assert not replica.heard
