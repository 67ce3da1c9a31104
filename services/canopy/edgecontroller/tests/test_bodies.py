"""What is written about a node, and what is read of it."""

import json

from msgspec import structs

from canopy.contracts.wire import Presence
from canopy.edgecontroller import bodies

NOW = 1_700_000_000_000
PRESENCE = Presence(
    node="e1",
    at=NOW,
    session=1,
    version="0.1",
    labels={"topology.kubernetes.io/zone": "hall", "node-role.kubernetes.io/master": "", "topology.x": "!bad!"},
    capacity={"cpu": "4", "memory": "lots", "pods": "500"},
)
ALLOWED = ("topology.",)


def node(**changes):
    obj = json.loads(bodies.new_node(PRESENCE, bodies.labels_of(PRESENCE, ALLOWED), NOW))
    obj["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    obj["status"] |= changes
    return bodies.read_node(json.dumps(obj).encode())


def test_a_node_takes_no_role_by_a_label_of_its_own_and_no_label_that_kubernetes_refuses():
    assert bodies.labels_of(PRESENCE, ALLOWED) == {
        "topology.kubernetes.io/zone": "hall",
        "node-role.kubernetes.io/edge": "",
        "node.canopy.dev/managed": "true",
        "kubernetes.io/hostname": "e1",
    }


def test_a_new_node_is_ready_tainted_and_has_no_room_for_pods():
    obj = json.loads(bodies.new_node(PRESENCE, {}, NOW))
    assert obj["spec"]["taints"] == [{"key": "node.canopy.dev/edge", "effect": "NoSchedule"}]
    assert obj["status"]["capacity"] == {"cpu": "4", "pods": "0"}
    assert obj["status"]["nodeInfo"]["kubeletVersion"] == "canopy-0.1"


def test_what_is_written_reads_back():
    seen = node()
    assert (seen.ready, seen.managed, seen.kubelet, seen.ready_since) == ("True", True, "canopy-0.1", NOW)


def test_others_conditions_stay_and_the_time_of_the_turn_is_kept():
    seen = node(conditions=[{"type": "Disk", "status": "True"}, {"type": "Ready", "status": "Unknown"}])
    patch = json.loads(bodies.status_patch(seen, False, NOW, None, NOW + 40_000))
    disk, ready = patch["status"]["conditions"]
    assert disk["type"] == "Disk" and patch["metadata"]["resourceVersion"] == "5"
    assert ready["reason"] == "NodeStatusUnknown" and "2023-11-14T22:13:20Z" in ready["message"]


def test_a_sick_unit_is_a_condition_of_its_node_and_unknown_while_the_node_is_gone():
    sick = structs.replace(PRESENCE, health={"edgehub": "ok", "mapper": "silent since 2023-11-14T22:13:20Z"})
    patch = json.loads(bodies.status_patch(node(), True, NOW, sick, NOW))
    seen = node(conditions=patch["status"]["conditions"])
    assert seen.health == ("False", "mapper: silent since 2023-11-14T22:13:20Z") and seen.health_since == NOW
    assert seen.health == bodies.health_of(sick) and seen.others == ()
    gone = json.loads(bodies.status_patch(seen, False, NOW, sick, NOW + 40_000))["status"]["conditions"]
    assert [(c["type"], c["status"]) for c in gone] == [("Ready", "Unknown"), ("EdgeHealthy", "Unknown")]


def test_a_lease_reads_back_to_the_millisecond_and_goes_with_its_node():
    raw = bodies.new_lease(node(), 40, NOW + 7)
    assert bodies.read_lease(raw) == ("e1", NOW + 7)
    assert json.loads(raw)["metadata"]["ownerReferences"][0]["uid"] == "u"
