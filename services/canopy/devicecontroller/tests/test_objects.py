"""What is kept of a Kubernetes object."""

import json

from canopy.devicecontroller.objects import MAX_OBJECT_BYTES, Source, read_device, read_model, read_status


def device(status=None, revision="10", managed=None, **spec):
    meta = {"name": "d", "namespace": "default", "uid": "u", "resourceVersion": revision, "generation": 2}
    obj = {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": meta, "spec": spec}
    if managed:
        meta["managedFields"] = managed
    if status:
        obj["status"] = status
    return json.dumps(obj).encode()


def test_a_device_is_read_with_its_node_and_model():
    d = read_device(device(nodeName="a", deviceModelRef={"name": "m"}))
    assert (d.node, d.model, d.uid, d.revision, d.key) == ("a", "m", "u", 10, ("Device", "default", "d"))


def test_the_body_bears_the_revision_and_neither_status_nor_managed_fields():
    d = read_device(device(status={"state": "online"}, managed=[{"manager": "x"}], nodeName="a"))
    body = json.loads(bytes(d.put.body))
    assert body["metadata"]["resourceVersion"] == "10"
    assert "status" not in body and "managedFields" not in body["metadata"]


def test_the_digest_is_the_same_while_only_status_or_revision_change():
    first, second = read_device(device(nodeName="a")), read_device(device({"state": "x"}, "11", nodeName="a"))
    assert first.put.entry == second.put.entry
    assert first.put.body != second.put.body


def test_the_digest_changes_with_the_spec():
    assert read_device(device(nodeName="a")).put.entry != read_device(device(nodeName="b")).put.entry


def test_the_order_of_keys_changes_nothing():
    a = b'{"metadata":{"name":"m","namespace":"n","uid":"u"},"spec":{"protocol":"p","properties":[]}}'
    b = b'{"spec":{"properties":[],"protocol":"p"},"metadata":{"uid":"u","namespace":"n","name":"m"}}'
    assert read_model(a) == read_model(b)


def test_what_is_too_big_has_no_body():
    d = read_device(device(nodeName="a", properties=[{"name": "x" * MAX_OBJECT_BYTES}]))
    assert d.put is None and d.size_bytes > MAX_OBJECT_BYTES


def test_a_status_whose_stamp_somebody_broke_counts_as_derived_from_nothing():
    meta = {"name": "d", "namespace": "default", "resourceVersion": "5"}
    for broken in ({"canopy": 5}, {"canopy": {"n": "x"}}, {}):
        raw = json.dumps({"metadata": meta, "status": {"extensions": broken}}).encode()
        assert read_status(raw).source == Source()
