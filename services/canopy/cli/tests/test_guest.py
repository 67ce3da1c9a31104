"""`canopy demo --kubeconfig`: the story is told on somebody's cluster, theirs is left alone, nothing of ours stays."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from canopy.cli.failure import Failure
from canopy.cli.guest import PREFIX, Guest
from canopy.contracts.crds import crds
from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.errors import NotFound
from canopy.kube.resource import CRDS, DEVICE_MODELS, DEVICE_STATUSES, DEVICES, LEASES, NAMESPACES, NODES
from canopy.testing.kubernetes import api_server, subjects
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.timeout(200)]
DEVICE_API = "devices.kubeedge.io/v1beta1"
KINDS = (NAMESPACES, NODES, LEASES, CRDS, DEVICE_MODELS, DEVICES, DEVICE_STATUSES)
THEIRS: list[tuple[Any, str, dict[str, Any]]] = [
    (NODES, "", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "theirs"}}),
    (DEVICE_MODELS, "default", {"apiVersion": DEVICE_API, "kind": "DeviceModel", "metadata": {"name": "theirs"}}),
    (DEVICES, "default", {"apiVersion": DEVICE_API, "kind": "Device", "metadata": {"name": "theirs"},
                          "spec": {"deviceModelRef": {"name": "theirs"}, "nodeName": "no-such-node"}}),
]  # fmt: skip


@pytest.fixture(params=subjects())
async def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """The kubeconfig of somebody's cluster."""
    async with api_server(request.param, tmp_path_factory.mktemp("host")) as server:
        yield server.kubeconfig


@pytest.fixture
async def kube(host: Path) -> AsyncIterator[Kube]:
    kube = await connect(host)
    try:
        yield kube
    finally:
        await kube.close()


async def things(kube: Kube) -> dict[str, str]:
    """Everything that is there, with its resourceVersion; of a Lease, which its owner renews, only that it is there.

    A namespace that ends is left out: one of a test before may take its time on a real cluster.
    """
    found = {}
    for kind in KINDS:
        for body in (await kube.list(kind)).items:
            meta = json.loads(body)["metadata"]
            if kind is NAMESPACES and "deletionTimestamp" in meta and not meta["name"].startswith(PREFIX):
                continue
            version = "" if kind in (LEASES, CRDS) else meta["resourceVersion"]
            found[f"{kind.plural} {meta.get('namespace', '')}/{meta['name']}"] = version
    return found


async def test_the_story_is_told_on_somebodys_cluster_and_all_is_there_as_before(
    host: Path, kube: Kube, place: Any
) -> None:
    for kind, namespace, body in THEIRS:
        await kube.create(kind, namespace, json.dumps(body).encode())
    before = await things(kube)
    code, out = await asyncio.to_thread(place.run, "demo", "--once", "--kubeconfig", str(host))
    assert code == 0, out
    assert re.search(rf"The demo will make at https://127.*\n  namespace {PREFIX}.*\n  Node {PREFIX}", out)
    assert "\n0. " in out and "\n6. " in out and "\nRemoved: namespace and Node" in out
    assert await things(kube) == before
    place.assert_nothing_left()
    assert not (place.root / "work/.demo/kubeconfig").exists()


async def test_ctrl_c_in_the_middle_removes_what_was_made(host: Path, kube: Kube, place: Any) -> None:
    before = await things(kube)
    with place.events("demo", "--kubeconfig", str(host), "--output", "json") as (demo, next_event):
        await asyncio.to_thread(next_event, lambda e: e["event"] == "step" and e["number"] == 2)
        assert set(await things(kube)) > set(before)
        demo.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(demo.wait, 60) == 130
    assert await things(kube) == before
    place.assert_nothing_left()


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Kube]:
    """A kubeserve that a test may spoil."""
    async with api_server("kubeserve", tmp_path / "own") as server:
        kube = await connect(server.kubeconfig)
        try:
            yield kube
        finally:
            await kube.close()


def guest(kube: Kube, said: list[str] | None = None) -> Guest:
    say = (said if said is not None else []).append
    return Guest(kube, "https://them", Path("kubeconfig"), "--kubeconfig theirs --context x", say)


async def without_crds(kube: Kube) -> None:
    for crd in crds():
        await kube.delete(CRDS, "", crd["metadata"]["name"])

    async def gone() -> bool:
        try:
            await kube.list(DEVICES)
        except NotFound:
            return True
        return False

    await until(gone)


async def test_missing_crds_are_announced_made_and_removed(own: Kube) -> None:
    await without_crds(own)
    before, one = await things_but_devices(own), guest(own)
    await one.look()
    assert "CustomResourceDefinitions, which are missing: devicemodels." in one.plan()
    async with one:
        assert (await own.list(DEVICES)).items == ()
    assert one.left == [] and await things_but_devices(own) == before


async def things_but_devices(kube: Kube) -> set[str]:
    kinds = (NAMESPACES, NODES, CRDS)
    return {json.loads(body)["metadata"]["name"] for kind in kinds for body in (await kube.list(kind)).items}


async def test_a_crd_that_others_have_used_meanwhile_stays_and_is_named(own: Kube) -> None:
    await without_crds(own)
    one = guest(own)
    await one.look()
    async with one:
        await own.create(*THEIRS[1][:2], json.dumps(THEIRS[1][2]).encode())
    assert len(one.left) == 1 and "CRD devicemodels." in one.left[0] and "1 objects of others" in one.left[0]
    assert "kubectl --kubeconfig theirs --context x delete" in one.lament()
    assert json.loads(await own.get(DEVICE_MODELS, "default", "theirs"))


async def test_where_another_canopy_has_nodes_the_demo_does_not_start(own: Kube) -> None:
    labels = {"node.canopy.dev/managed": "true"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "mill-7", "labels": labels}}
    await own.create(NODES, "", json.dumps(node).encode())
    with pytest.raises(Failure, match=r"another Canopy has Nodes at https://them.*mill-7"):
        await guest(own).look()


async def test_a_crd_of_another_version_is_named(own: Kube) -> None:
    await without_crds(own)
    old = crds()[1]
    old["spec"]["versions"][0]["name"] = "v1alpha2"
    await own.create(CRDS, "", json.dumps(old).encode())
    with pytest.raises(Failure, match=r"devices.devices.kubeedge.io as v1alpha2, and Canopy needs v1beta1"):
        await guest(own).look()


async def test_what_cannot_be_removed_is_named_with_the_line_that_removes_it(own: Kube) -> None:
    one = guest(own)
    await one.look()
    async with one:
        finalizers = {"metadata": {"finalizers": ["them/keep"]}}
        await own.create(LEASES, one.name, json.dumps({"metadata": {"name": "x"}}).encode())
        await own.patch(NAMESPACES, "", one.name, json.dumps(finalizers).encode())
        one.gone_seconds = 0.5
    assert len(one.left) == 1 and f"namespace {one.name}: waited 0.5 s" in one.left[0]
    assert f"delete namespace,node {one.name}" in one.lament()
