"""DeviceController between a real hub and an API server."""

import asyncio
import json
from contextlib import suppress

import pytest

from canopy.bus import AskFailed
from canopy.contracts import catalogue
from canopy.kube.errors import Unavailable
from canopy.kube.resource import DEVICE_STATUSES, DEVICES, LEASES
from canopy.sync.down import Follower
from canopy.testing.wait import until

pytestmark = pytest.mark.server
GARBAGE_SECONDS = 60.0
"""Kubernetes takes a DeviceStatus away with its Device, and its collector is busy with itself when it is young."""


def names(message):
    return sorted(p.entry.name for p in message.puts)


async def test_a_device_and_its_model_are_answered_in_a_page_and_pushed_at_once(cloud):
    await cloud.model()
    async with cloud.replica():
        await cloud.device("first", node="b")  # whoever begins to lead tells nodes to ask: what follows is pushed
        await until(lambda: any(n == "b" for n, _ in cloud.pushes))
        made = await cloud.device()
        node, push = await until(lambda: next((p for p in cloud.pushes if p[0] == "a" and p[1].puts), None))
        assert (node, names(push)) == ("a", ["d", "m"])
        page = await cloud.page()
        assert page.hash == push.hash and names(page) == ["d", "m"] and page.cluster
        device = next(json.loads(bytes(p.body)) for p in page.puts if p.entry.kind == "Device")
        assert int(device["metadata"]["resourceVersion"]) >= int(made["metadata"]["resourceVersion"])
        follower = Follower()
        follower.commit(follower.judge(push))
        assert follower.proven
        assert (await cloud.page(hash=page.hash)).puts == []


async def test_a_moved_device_leaves_one_node_for_the_other(cloud):
    await cloud.model()
    async with cloud.replica():
        await cloud.device()
        await until(lambda: cloud.pushes)
        cloud.pushes.clear()
        await cloud.move("d", "b")
        left = await until(lambda: next((p for n, p in cloud.pushes if n == "a" and p.deletes), None))
        came = await until(lambda: next((p for n, p in cloud.pushes if n == "b" and p.puts), None))
        assert len(left.deletes) == 2 and names(came) == ["d", "m"]
        assert names(await cloud.page("a")) == [] and names(await cloud.page("b")) == ["d", "m"]


async def test_a_device_made_anew_under_the_same_name_is_another_entry_and_inherits_no_state(cloud):
    async with cloud.replica():
        first = await cloud.device()
        await cloud.report("1", first["metadata"]["uid"])
        assert await until(cloud.value) == "1"
        before = (await cloud.page()).hash
        await cloud.kube.delete(DEVICES, "default", "d")
        second = await cloud.device()
        await until(lambda: _other(cloud, before))
        await until(lambda: _none(cloud.recorded()))
        await until(lambda: _none(cloud.value()), GARBAGE_SECONDS)
        await cloud.report("2", second["metadata"]["uid"])
        assert await until(lambda: _is(cloud, "2"))
        owner = (await cloud.got(DEVICE_STATUSES))["metadata"]["ownerReferences"][0]
        assert owner["uid"] == second["metadata"]["uid"]


async def test_the_status_follows_twins_at_most_once_in_its_interval_and_ends_with_the_last_value(cloud):
    async with cloud.replica(device_interval_seconds=0.5) as env:
        uid = (await cloud.device())["metadata"]["uid"]
        await cloud.report("first", uid)
        assert await until(cloud.value) == "first"
        writes = env.metrics.counter("canopy_devicecontroller_writes_total", "")
        before, began = writes.value(what="status"), asyncio.get_running_loop().time()
        for i in range(200):
            await cloud.report(str(i), uid)
        await until(lambda: _is(cloud, "199"))
        seconds = asyncio.get_running_loop().time() - began
        assert writes.value(what="status") - before <= seconds / 0.5 + 1
        status = await cloud.status()
        assert status["state"] == "online" and status["extensions"]["canopy"]["n"] == cloud.n


async def test_an_older_state_never_follows_a_newer_one(cloud):
    seen, last = [], 0
    async with cloud.replica(device_interval_seconds=0.1), cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device())["metadata"]["uid"]
        for i in range(1, 61):
            last = i
            await cloud.report(str(i), uid)
            seen.append(int(await cloud.value() or 0))
        await until(lambda: _is(cloud, str(last)))
    assert seen == sorted(seen)


async def test_an_edited_or_deleted_status_heals(cloud):
    async with cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device())["metadata"]["uid"]
        await cloud.report("1", uid)
        await until(cloud.value)
        lie = json.dumps({"status": {"twins": [], "state": "offline"}}).encode()
        await cloud.kube.patch(DEVICE_STATUSES, "default", "d", lie, subresource="status")
        assert await until(lambda: _is(cloud, "1"))
        await cloud.kube.delete(DEVICE_STATUSES, "default", "d")
        assert await until(lambda: _is(cloud, "1"))
        orphan = json.dumps({"metadata": {"ownerReferences": None}}).encode()
        await cloud.kube.patch(DEVICE_STATUSES, "default", "d", orphan)
        await until(lambda: _owned(cloud))


async def test_the_record_of_a_device_that_moved_away_is_purged_unless_the_edge_knows_a_later_device(cloud):
    async with cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device(node="b"))["metadata"]["uid"]
        await cloud.report("old", uid, node="a")
        await cloud.report("later", uid, node="c", device_revision=10**9)
        await until(lambda: _none(cloud.recorded(node="a")))
        await cloud.report("1", uid, node="b")
        await until(lambda: _is(cloud, "1"))
        assert await cloud.recorded(node="c")


async def test_another_replica_leads_after_the_leader_and_looks_at_every_device(cloud):
    uid = (await cloud.device())["metadata"]["uid"]
    async with cloud.replica(device_interval_seconds=0.1):
        await cloud.report("1", uid)
        await until(lambda: _is(cloud, "1"))
    await cloud.report("2", uid)
    async with cloud.replica(device_interval_seconds=0.1):
        await until(lambda: _is(cloud, "2"))


async def test_two_leaders_at_once_do_no_harm(cloud):
    """The second one does not know that the first still writes, as after a pause of its machine."""
    seen = []
    async with cloud.replica(device_interval_seconds=0.1), cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device())["metadata"]["uid"]
        for i in range(1, 41):
            if i == 10:
                lease = json.loads(await cloud.kube.get(LEASES, "kube-system", "canopy-devicecontroller"))
                free = json.dumps({"spec": {**lease["spec"], "holderIdentity": ""}}).encode()
                await cloud.kube.patch(LEASES, "kube-system", "canopy-devicecontroller", free)
            await cloud.report(str(i), uid)
            seen.append(int(await cloud.value() or 0))
        await until(lambda: _is(cloud, "40"))
    assert seen == sorted(seen)


async def test_a_hub_that_was_killed_and_came_back_changes_nothing(cloud):
    async with cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device())["metadata"]["uid"]
        await cloud.report("1", uid)
        await until(lambda: _is(cloud, "1"))
        await cloud.hub.server.restart(kill=True)
        await until(lambda: cloud.bus.connection.connected)
        await until(lambda: _reported(cloud, "2", uid))
        await until(lambda: _is(cloud, "2"))
        await until(lambda: _page(cloud))


async def test_a_kubernetes_that_was_away_gets_the_last_state(cloud):
    async with cloud.replica(device_interval_seconds=0.1):
        uid = (await cloud.device())["metadata"]["uid"]
        await cloud.report("1", uid)
        await until(lambda: _is(cloud, "1"))
        async with cloud.server.away():
            for i in range(5):
                await cloud.report(str(i), uid)
            assert names(await cloud.page()) == ["d"]
        await until(lambda: _is(cloud, "4"))


async def test_every_replica_answers_and_only_one_writes(cloud):
    async with cloud.replica() as one, cloud.replica() as two:
        uid = (await cloud.device())["metadata"]["uid"]
        await cloud.report("1", uid)
        await until(lambda: _is(cloud, "1"))
        for _ in range(20):
            assert names(await cloud.page()) == ["d"]
        name = "canopy_devicecontroller_{}_total"
        answered = [e.metrics.counter(name.format("pages"), "").value() for e in (one, two)]
        wrote = [e.metrics.counter(name.format("writes"), "").value(what="status") for e in (one, two)]
        assert sum(answered) == 20 and all(answered)
        assert sorted(wrote) == [0, 1]


async def test_a_device_that_cannot_get_to_its_node_says_why_until_it_can(cloud):
    async with cloud.replica(device_interval_seconds=0.1):
        await cloud.device()
        await until(lambda: _reason(cloud, "ModelNotFound"))
        await cloud.model()
        await until(lambda: _reason(cloud, "NodeNotFound"))
        await cloud.node()
        await until(lambda: _reason(cloud, "Placed"))


async def test_without_an_epoch_in_cluster_it_is_the_first(cloud):
    async with cloud.replica():
        await cloud.device()
        await cloud.model()
        await until(lambda: cloud.pushes)
        assert (await cloud.page()).as_of.epoch == 1
        assert catalogue.CLUSTER.at(channel="devices") == "cluster.devices"


async def _is(cloud, value):
    try:
        return await cloud.value() == value
    except Unavailable:
        return False


async def _reported(cloud, value, uid):
    with suppress(AskFailed):
        return await cloud.report(value, uid)


async def _page(cloud):
    with suppress(AskFailed):
        return names(await cloud.page()) == ["d"]


async def _none(found):
    return await found is None


async def _other(cloud, before):
    page = await cloud.page()
    return page.puts and page.hash != before


async def _owned(cloud):
    return bool((await cloud.got(DEVICE_STATUSES) or {"metadata": {}})["metadata"].get("ownerReferences"))


async def _reason(cloud, reason):
    return await cloud.ready() == reason
