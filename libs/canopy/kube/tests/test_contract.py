"""What Canopy needs of a Kubernetes API. Runs against kubeserve, and against a real cluster with our CRDs where the
environment variable CANOPY_TEST_KUBECONFIG names its kubeconfig."""

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from canopy.contracts.devices import Device, DeviceState, DeviceStatus, ObjectMeta, OwnerReference, Twin, TwinValue
from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Refused,
    Unauthorized,
    Unavailable,
)
from canopy.kube.informer import Informer, InformerSettings
from canopy.kube.kubeconfig import NoCluster
from canopy.kube.leader import Leader, LeaderSettings
from canopy.kube.resource import CRDS, DEVICE_STATUSES, DEVICES, EVENTS, LEASES, NODES, Resource

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("kube")]
DEADLINE_SECONDS = 15.0
GARBAGE_SECONDS = 60.0
"""A real collector of garbage is busy with itself when it is young."""


def device(name: str, node: str = "edge-1", **labels: str) -> bytes:
    return json.dumps(
        {"metadata": {"name": name, "labels": labels}, "spec": {"nodeName": node}} | _kind("Device")
    ).encode()


def _kind(kind: str) -> dict[str, str]:
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": kind}


def read(body: bytes) -> Device:
    return msgspec.json.decode(body, type=Device)


def status_of(owner: Device) -> bytes:
    meta = owner.metadata
    ref = OwnerReference(api_version=owner.api_version, kind="Device", name=meta.name, uid=meta.uid)
    return msgspec.json.encode(DeviceStatus(metadata=ObjectMeta(name=meta.name, owner_references=(ref,))))


async def gone(kube: Kube, resource: Resource, namespace: str, name: str, seconds: float = DEADLINE_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                await kube.get(resource, namespace, name)
            except NotFound:
                return
            await asyncio.sleep(0.02)


# --- objects ----------------------------------------------------------------------------------------------------------
async def test_a_created_object_has_its_ids_and_reads_back_the_same(kube: Kube, namespace: str) -> None:
    made = read(await kube.create(DEVICES, namespace, device("d1", a="b")))
    assert made.metadata.uid and made.metadata.creation_timestamp and made.metadata.generation == 1
    assert made.metadata.namespace == namespace and made.metadata.labels == {"a": "b"}
    assert read(await kube.get(DEVICES, namespace, "d1")) == made


async def test_a_name_is_taken_once(kube: Kube, namespace: str) -> None:
    await kube.create(DEVICES, namespace, device("d1"))
    with pytest.raises(AlreadyExists):
        await kube.create(DEVICES, namespace, device("d1"))


async def test_generate_name_makes_a_new_name_each_time(kube: Kube, namespace: str) -> None:
    body = json.dumps({**_kind("Device"), "metadata": {"generateName": "d-"}, "spec": {}}).encode()
    names = {read(await kube.create(DEVICES, namespace, body)).metadata.name for _ in range(2)}
    assert len(names) == 2 and all(n.startswith("d-") and len(n) > 2 for n in names)


async def test_what_is_not_there_is_not_found(kube: Kube, namespace: str) -> None:
    for call in (kube.get(DEVICES, namespace, "no"), kube.delete(DEVICES, namespace, "no")):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(NotFound):
        await kube.patch(DEVICES, namespace, "no", b"{}")
    with pytest.raises(NotFound):
        await kube.create(DEVICES, "no-such-namespace", device("d"))


async def test_an_update_of_something_older_is_a_conflict(kube: Kube, namespace: str) -> None:
    first = json.loads(await kube.create(DEVICES, namespace, device("d1")))
    first["spec"]["nodeName"] = "edge-2"
    second = read(await kube.update(DEVICES, namespace, "d1", json.dumps(first).encode()))
    assert second.spec.node_name == "edge-2" and second.metadata.generation == 2
    with pytest.raises(Conflict):
        await kube.update(DEVICES, namespace, "d1", json.dumps(first).encode())


async def test_a_merge_patch_changes_what_it_names_and_holds_to_a_revision(kube: Kube, namespace: str) -> None:
    made = read(await kube.create(DEVICES, namespace, device("d1", keep="1", drop="1")))
    patch = {"metadata": {"labels": {"drop": None}, "resourceVersion": made.metadata.resource_version}}
    patched = read(await kube.patch(DEVICES, namespace, "d1", json.dumps(patch).encode()))
    assert patched.metadata.labels == {"keep": "1"} and patched.spec == made.spec
    with pytest.raises(Conflict):
        await kube.patch(DEVICES, namespace, "d1", json.dumps(patch).encode())


async def test_a_json_patch_tests_and_replaces(kube: Kube, namespace: str) -> None:
    await kube.create(DEVICES, namespace, device("d1"))
    change = [{"op": "replace", "path": "/spec/nodeName", "value": "edge-3"}]
    body = json.dumps([{"op": "test", "path": "/spec/nodeName", "value": "edge-1"}, *change]).encode()
    assert read(await kube.patch(DEVICES, namespace, "d1", body, kind="json")).spec.node_name == "edge-3"
    with pytest.raises((Invalid, Refused)):
        await kube.patch(DEVICES, namespace, "d1", body, kind="json")


async def test_a_write_that_changes_nothing_keeps_the_revision(kube: Kube, namespace: str) -> None:
    made = read(await kube.create(DEVICES, namespace, device("d1")))
    patched = read(await kube.patch(DEVICES, namespace, "d1", b'{"spec":{"nodeName":"edge-1"}}'))
    assert patched.metadata.resource_version == made.metadata.resource_version


async def test_spec_and_status_are_written_at_their_own_doors(kube: Kube, namespace: str) -> None:
    await kube.create(DEVICES, namespace, device("d1"))
    both = b'{"spec":{"nodeName":"other"},"status":{"state":"online"}}'
    by_status = read(await kube.patch(DEVICES, namespace, "d1", both, subresource="status"))
    assert by_status.spec.node_name == "edge-1" and by_status.status == DeviceState(state="online")
    assert by_status.metadata.generation == 1
    by_main = read(await kube.patch(DEVICES, namespace, "d1", b'{"spec":{"nodeName":"n"},"status":{"state":"x"}}'))
    assert by_main.spec.node_name == "n" and by_main.status == DeviceState(state="online")


async def test_a_device_status_takes_twins(kube: Kube, namespace: str) -> None:
    owner = read(await kube.create(DEVICES, namespace, device("d1")))
    await kube.create(DEVICE_STATUSES, namespace, status_of(owner))
    state = DeviceState(twins=(Twin(property_name="switch", reported=TwinValue(value="")),), state="online")
    patch = msgspec.json.encode({"status": state})
    body = await kube.patch(DEVICE_STATUSES, namespace, "d1", patch, subresource="status")
    assert msgspec.json.decode(body, type=DeviceStatus).status == state


async def test_what_breaks_the_schema_is_invalid_and_names_the_field(kube: Kube, namespace: str) -> None:
    bad = {**_kind("Device"), "metadata": {"name": "d1"}, "spec": {"nodeName": 5, "properties": [{"name": True}]}}
    with pytest.raises(Invalid) as raised:
        await kube.create(DEVICES, namespace, json.dumps(bad).encode())
    assert {c.field for c in raised.value.causes} == {"spec.nodeName", "spec.properties[0].name"}


async def test_unknown_fields_are_left_out(kube: Kube, namespace: str) -> None:
    body = json.loads(device("d1"))
    body["spec"] |= {"foo": 1, "protocol": {"configData": {"kept": {"x": 1}}, "bar": 2}}
    made = json.loads(await kube.create(DEVICES, namespace, json.dumps(body).encode()))
    assert made["spec"] == {"nodeName": "edge-1", "protocol": {"configData": {"kept": {"x": 1}}}}


async def test_a_delete_can_mean_one_very_object(kube: Kube, namespace: str) -> None:
    made = read(await kube.create(DEVICES, namespace, device("d1")))
    with pytest.raises(Conflict):
        await kube.delete(DEVICES, namespace, "d1", uid="00000000-0000-0000-0000-000000000000")
    await kube.delete(DEVICES, namespace, "d1", uid=made.metadata.uid)
    await gone(kube, DEVICES, namespace, "d1")


async def test_finalizers_hold_a_deletion(kube: Kube, namespace: str) -> None:
    await kube.create(DEVICES, namespace, device("d1"))
    await kube.patch(DEVICES, namespace, "d1", b'{"metadata":{"finalizers":["canopy.dev/hold"]}}')
    await kube.delete(DEVICES, namespace, "d1")
    assert read(await kube.get(DEVICES, namespace, "d1")).metadata.deletion_timestamp
    await kube.patch(DEVICES, namespace, "d1", b'{"metadata":{"finalizers":null}}')
    await gone(kube, DEVICES, namespace, "d1")


async def test_what_a_device_owns_goes_with_it(kube: Kube, namespace: str) -> None:
    owner = read(await kube.create(DEVICES, namespace, device("d1")))
    await kube.create(DEVICE_STATUSES, namespace, status_of(owner))
    await kube.delete(DEVICES, namespace, "d1")
    await gone(kube, DEVICE_STATUSES, namespace, "d1", GARBAGE_SECONDS)


async def test_a_node_has_its_status_and_its_taints(kube: Kube, namespace: str) -> None:
    name = namespace
    taint = {"key": "node.canopy.dev/edge", "effect": "NoSchedule"}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": [taint]}}
    await kube.create(NODES, "", json.dumps(node).encode())
    try:
        ready = b'{"status":{"conditions":[{"type":"Ready","status":"True"}]}}'
        read_back = json.loads(await kube.patch(NODES, "", name, ready, subresource="status"))
        assert read_back["status"]["conditions"][0]["status"] == "True"
        assert taint.items() <= read_back["spec"]["taints"][0].items()
    finally:
        await kube.delete(NODES, "", name)


async def test_events_can_be_written(kube: Kube, namespace: str) -> None:
    about = {"kind": "Device", "namespace": namespace, "name": "d1"}
    event = {"metadata": {"generateName": "d1."}, "involvedObject": about, "reason": "TooLarge", "type": "Warning"}
    await kube.create(EVENTS, namespace, json.dumps(event | {"apiVersion": "v1", "kind": "Event"}).encode())
    listed = await kube.list(EVENTS, namespace, field_selector="involvedObject.name=d1,reason=TooLarge")
    assert len(listed.items) == 1


# --- lists and selectors ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("labels", "fields", "expected"),
    [
        ("", "", "abc"),
        ("x=1", "", "a"),
        ("x!=1", "", "bc"),
        ("x", "", "ab"),
        ("!x", "", "c"),
        ("x in (1,2)", "", "ab"),
        ("x notin (2)", "", "ac"),
        ("x,x!=2", "", "a"),
        ("", "metadata.name=b", "b"),
        ("x", "metadata.name!=b", "a"),
    ],
)
async def test_a_list_holds_what_the_selectors_choose(
    kube: Kube, namespace: str, labels: str, fields: str, expected: str
) -> None:
    for name, x in (("a", {"x": "1"}), ("b", {"x": "2"}), ("c", {})):
        await kube.create(DEVICES, namespace, device(name, **x))
    listed = await kube.list(DEVICES, namespace, label_selector=labels, field_selector=fields)
    assert "".join(read(i).metadata.name for i in listed.items) == expected


async def test_a_bad_selector_is_refused(kube: Kube, namespace: str) -> None:
    for selectors in ({"label_selector": "a = = b"}, {"field_selector": "spec.nodeName=x"}):
        with pytest.raises(Refused):
            await kube.list(DEVICES, namespace, **selectors)


async def test_a_list_of_all_namespaces_is_as_of_one_revision(kube: Kube, namespace: str) -> None:
    made = read(await kube.create(DEVICES, namespace, device("d1")))
    listed = await kube.list(DEVICES)
    assert made in [read(i) for i in listed.items]
    assert listed.revision >= int(made.metadata.resource_version)


async def test_all_kinds_share_one_counter(kube: Kube, namespace: str) -> None:
    first = read(await kube.create(DEVICES, namespace, device("d1")))
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l1"}, "spec": {}}
    second = json.loads(await kube.create(LEASES, namespace, json.dumps(lease).encode()))
    assert int(second["metadata"]["resourceVersion"]) > int(first.metadata.resource_version)
    assert (await kube.list(DEVICES)).revision >= int(second["metadata"]["resourceVersion"])


# --- who may ----------------------------------------------------------------------------------------------------------
async def test_a_wrong_token_is_unauthorized_and_leaves_the_right_one_alone(kube: Kube, namespace: str) -> None:
    with pytest.raises(Unauthorized):
        await kube.with_token("wrong").list(DEVICES, namespace)
    await kube.list(DEVICES, namespace)


async def test_a_cluster_that_is_not_there_is_unavailable(kubeconfig: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(kubeconfig.read_text())  # noqa: ASYNC240
    config["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    nowhere = await connect(tmp_path / "config")
    with pytest.raises(Unavailable):
        await nowhere.list(DEVICES)
    await nowhere.close()


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoCluster, match="nothing"):
        await connect(tmp_path / "nothing")


# --- custom kinds -----------------------------------------------------------------------------------------------------
async def test_a_crd_serves_its_kind_and_takes_it_away(kube: Kube, namespace: str) -> None:
    group = f"{namespace}.canopy.dev"
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"n": {"type": "integer", "default": 3}}}},
    }
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    spec = {"group": group, "scope": "Namespaced", "names": {"kind": "Lamp", "plural": "lamps"}, "versions": [version]}
    head = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
    await kube.create(CRDS, "", json.dumps(head | {"metadata": {"name": f"lamps.{group}"}, "spec": spec}).encode())
    lamps = Resource(group, "v1", "lamps")
    lamp = {"apiVersion": f"{group}/v1", "kind": "Lamp", "metadata": {"name": "l"}, "spec": {}}
    made = json.loads(await _until_served(lambda: kube.create(lamps, namespace, json.dumps(lamp).encode())))
    assert made["spec"] == {"n": 3}
    await kube.delete(CRDS, "", f"lamps.{group}")
    await gone(kube, lamps, namespace, "l")


async def _until_served(call: Callable[[], Any]) -> bytes:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                return bytes(await call())
            except NotFound:
                await asyncio.sleep(0.1)


# --- watches and informers --------------------------------------------------------------------------------------------
QUICK = InformerSettings(watch_seconds=20, backoff_first_seconds=0.02, backoff_most_seconds=0.5)


@asynccontextmanager
async def informing(kube: Kube, namespace: str = "", **options: Any) -> Any:
    informer = Informer(kube, DEVICES, read, namespace=namespace, settings=QUICK, **options)
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await informer.wait_synced()
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(informer: Informer[Device], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await informer.wait_for(condition)


async def test_an_informer_follows_what_comes_changes_and_goes(kube: Kube, namespace: str) -> None:
    told: list[tuple[str, str, str]] = []

    def on_change(key: tuple[str, str], old: Device | None, new: Device | None) -> None:
        told.append((key[1], old.spec.node_name if old else "-", new.spec.node_name if new else "-"))

    await kube.create(DEVICES, namespace, device("d1", "n1"))
    async with informing(kube, namespace, on_change=on_change) as informer:
        await kube.create(DEVICES, namespace, device("d2", "n2"))
        moved = read(await kube.patch(DEVICES, namespace, "d1", b'{"spec":{"nodeName":"n3"}}'))
        await until(informer, lambda: informer.objects.get((namespace, "d1")) == moved)
        await kube.delete(DEVICES, namespace, "d2")
        await until(informer, lambda: (namespace, "d2") not in informer.objects)
        assert informer.revision > int(moved.metadata.resource_version)
    assert told == [("d1", "-", "n1"), ("d2", "-", "n2"), ("d1", "n1", "n3"), ("d2", "n2", "-")]


async def test_the_revision_is_zero_until_the_list_is_complete(kube: Kube, namespace: str) -> None:
    informer = Informer(kube, DEVICES, read, namespace=namespace, settings=QUICK)
    assert informer.revision == 0 and not informer.synced


async def test_an_informer_sees_an_object_come_into_view_and_leave_it(kube: Kube, namespace: str) -> None:
    await kube.create(DEVICES, namespace, device("d1"))
    async with informing(kube, namespace, label_selector="site=a") as informer:
        assert not informer.objects
        await kube.patch(DEVICES, namespace, "d1", b'{"metadata":{"labels":{"site":"a"}}}')
        await until(informer, lambda: len(informer.objects) == 1)
        await kube.patch(DEVICES, namespace, "d1", b'{"metadata":{"labels":{"site":"b"}}}')
        await until(informer, lambda: not informer.objects)


async def test_bookmarks_move_the_revision_of_a_quiet_kind(kube: Kube, namespace: str, kubeconfig: Path) -> None:
    if "kubeserve" not in str(kubeconfig):
        pytest.skip("a real API server sends one a minute")
    async with informing(kube, namespace) as informer:
        other = json.loads(await kube.create(LEASES, namespace, b'{"metadata":{"name":"l1"},"spec":{}}'))
        await until(informer, lambda: informer.revision >= int(other["metadata"]["resourceVersion"]))


async def test_an_object_that_cannot_be_read_keeps_its_last_good_form(kube: Kube, namespace: str) -> None:
    def strict(body: bytes) -> Device:
        if b'"bad"' in body:  # as a whole word: a uid may hold those letters
            raise ValueError("no bad ones")
        return read(body)

    await kube.create(DEVICES, namespace, device("d1"))
    informer = Informer(kube, DEVICES, strict, namespace=namespace, settings=QUICK)
    task = asyncio.create_task(informer.run())
    await until(informer, lambda: informer.synced)
    await kube.patch(DEVICES, namespace, "d1", b'{"spec":{"nodeName":"bad"}}')
    await until(informer, lambda: (namespace, "d1") in informer.unreadable)
    assert informer.objects[(namespace, "d1")].spec.node_name == "edge-1"
    await kube.patch(DEVICES, namespace, "d1", b'{"spec":{"nodeName":"good"}}')
    await until(informer, lambda: informer.objects[(namespace, "d1")].spec.node_name == "good")
    assert not informer.unreadable
    task.cancel()


async def test_a_watch_from_a_revision_that_is_not_there_yet_tells_nothing(kube: Kube, namespace: str) -> None:
    """kubeserve says so; a real API server is silent until the time is over."""
    revision = (await kube.list(DEVICES, namespace)).revision + 1_000_000
    told = []
    try:
        async with kube.watch(DEVICES, namespace, revision=revision, timeout_seconds=1) as events:
            await kube.create(DEVICES, namespace, device("d1"))
            told = [e async for e in events if e.type != "BOOKMARK"]
    except Unavailable as error:
        assert [c.reason for c in error.causes] == ["ResourceVersionTooLarge"]
    assert told == []


async def test_an_informer_that_saw_a_later_kubernetes_lists_anew(kube: Kube, namespace: str) -> None:
    """As after a restore: what it saw is not there yet, or never will be."""
    await kube.create(DEVICES, namespace, device("d1"))
    informer = Informer(kube, DEVICES, read, namespace=namespace, settings=InformerSettings(watch_seconds=1))
    task = asyncio.create_task(informer.run())
    await until(informer, lambda: informer.synced)
    informer.revision += 1_000_000
    await kube.create(DEVICES, namespace, device("d2"))
    await until(informer, lambda: (namespace, "d2") in informer.objects)
    await kube.create(DEVICES, namespace, device("d3"))
    await until(informer, lambda: (namespace, "d3") in informer.objects)
    assert informer.revision < 1_000_000
    task.cancel()


async def test_a_watch_ends_when_its_time_is_over(kube: Kube, namespace: str) -> None:
    revision = (await kube.list(DEVICES, namespace)).revision
    async with asyncio.timeout(DEADLINE_SECONDS):
        async with kube.watch(DEVICES, namespace, revision=revision, timeout_seconds=1) as events:
            assert [e.type async for e in events if e.type != "BOOKMARK"] == []


async def test_every_change_of_a_burst_is_seen_in_order(kube: Kube, namespace: str) -> None:
    revision = (await kube.list(DEVICES, namespace)).revision
    names = [f"d{i}" for i in range(50)]
    await asyncio.gather(*(kube.create(DEVICES, namespace, device(n)) for n in names))
    seen: list[Device] = []
    async with asyncio.timeout(DEADLINE_SECONDS):
        async with kube.watch(DEVICES, namespace, revision=revision, timeout_seconds=10) as events:
            async for event in events:
                seen += [read(event.object)] if event.type == "ADDED" else []
                if len(seen) == len(names):
                    break
    revisions = [int(d.metadata.resource_version) for d in seen]
    assert revisions == sorted(set(revisions)) and {d.metadata.name for d in seen} == set(names)


# --- leaders ----------------------------------------------------------------------------------------------------------
SHORT = LeaderSettings(lease_seconds=1.0, renew_deadline_seconds=0.7, retry_seconds=0.1)
STEADY = LeaderSettings(lease_seconds=3.0, renew_deadline_seconds=2.5, retry_seconds=0.1)
"""On a busy machine too a leader renews in time."""


@asynccontextmanager
async def replica(kube: Kube, namespace: str, identity: str, **options: Any) -> Any:
    leader = Leader(kube, namespace, "lead", identity, **{"settings": SHORT, **options})
    task = asyncio.create_task(leader.run())
    try:
        yield leader, task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def led_by(leader: Leader) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        await leader.wait()


async def test_one_replica_leads_and_hands_over_when_it_stops(kube: Kube, namespace: str) -> None:
    said: list[str] = []
    a_stops, b_starts = (lambda: said.append("a stopped")), (lambda: said.append("b started"))
    async with replica(kube, namespace, "a", settings=STEADY, on_stopped=a_stops) as (a, task):
        await led_by(a)
        async with replica(kube, namespace, "b", settings=STEADY, on_started=b_starts) as (b, _):
            await asyncio.sleep(3.5)  # longer than the lease: b must not get it while a renews
            assert a.is_leader and not b.is_leader
            task.cancel()
            await led_by(b)
            assert not a.is_leader
    assert said == ["a stopped", "b started"]


async def test_a_leader_that_dies_is_followed_by_another(kube: Kube, namespace: str) -> None:
    held = {"holderIdentity": "dead", "leaseDurationSeconds": 1, "leaseTransitions": 4}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "lead"}, "spec": held}
    await kube.create(LEASES, namespace, json.dumps(lease).encode())
    async with replica(kube, namespace, "b") as (b, _):
        await led_by(b)
        spec = json.loads(await kube.get(LEASES, namespace, "lead"))["spec"]
        assert spec["holderIdentity"] == "b" and spec["leaseTransitions"] == 5


async def test_a_leader_whose_lease_was_taken_stops(kube: Kube, namespace: str) -> None:
    stopped = asyncio.Event()
    async with replica(kube, namespace, "a", on_stopped=stopped.set) as (a, _):
        await led_by(a)
        await kube.patch(LEASES, namespace, "lead", b'{"spec":{"holderIdentity":"thief","leaseDurationSeconds":60}}')
        async with asyncio.timeout(DEADLINE_SECONDS):
            await stopped.wait()
        assert not a.is_leader


async def test_a_renewal_out_of_turn_gives_the_newest_revision(kube: Kube, namespace: str) -> None:
    revisions: list[int] = []
    async with replica(kube, namespace, "a", settings=STEADY, on_renewed=revisions.append) as (a, _):
        await led_by(a)
        before = a.revision
        mark = await a.renew_now()
        assert mark > before and revisions[-1] >= mark
    with pytest.raises(Conflict):
        await a.renew_now()


async def test_a_deleted_lease_is_made_anew(kube: Kube, namespace: str) -> None:
    async with replica(kube, namespace, "a") as (a, _):
        await led_by(a)
        uid = a.uid
        await kube.delete(LEASES, namespace, "lead")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while a.uid == uid or not a.is_leader:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_errors_are_all_of_one_family() -> None:
    assert all(issubclass(e, KubeError) for e in (AlreadyExists, Conflict, Gone, Invalid, NotFound, Refused))
