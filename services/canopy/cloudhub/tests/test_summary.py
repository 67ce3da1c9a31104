"""The fleet in one page."""

from typing import Any

import pytest

from canopy.cloudhub.summary import MOST_SHOWN, NodeState, identities, node_state, tally, unit_state
from canopy.contracts.times import rfc3339
from canopy.contracts.wire import DeviceState, Presence, Problem, TwinRecord, UnitCheck, UnitHealth

NOW, FRESH = 1_700_000_000_000, 40_000
CHECKS = [UnitCheck(check="running")]
CLOUD = [
    UnitHealth(unit="cloudhub", run="a", version="0.2", checks=CHECKS),
    UnitHealth(unit="devicecontroller", run="b", version="0.2", checks=CHECKS, facts={"leads": "no"}),
    UnitHealth(unit="devicecontroller", run="c", version="0.2", checks=CHECKS, facts={"leads": "yes"}),
    UnitHealth(unit="edgecontroller", run="d", version="0.2", checks=CHECKS, facts={"leads": "yes"}),
]


def heard(name: str, at: int = NOW, **more: Any) -> Presence:
    return Presence(node=name, at=at, session=1, version="0.1", **more)


def twin(state: str, *problems: Problem) -> TwinRecord:
    return TwinRecord(
        node="e", namespace="default", name="d", uid="u", device_revision=1, session=1, n=1, revision=1, digest="",
        received=NOW, state=DeviceState(state=state, problems=list(problems)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("presence", "ready", "state", "why"),
    [
        (heard("e", health={"mapper": "ok"}), True, "ready", ""),
        (heard("e", health={"mapper": "silent"}), True, "degraded", "mapper: silent"),
        (heard("e"), False, "degraded", "not Ready in Kubernetes"),
        (heard("e", NOW - FRESH - 1), True, "away", "not heard"),
        (None, True, "away", "not heard"),
    ],
)
def test_a_node_is_ready_degraded_or_away(presence: Presence | None, ready: bool, state: str, why: str) -> None:
    found = node_state("e", ready, presence, NOW, FRESH)
    assert (found.state, found.why, found.since) == (state, why, presence.at if presence else 0)


@pytest.mark.parametrize(
    ("unit", "cloud", "state"),
    [
        ("devicecontroller", CLOUD, (2, True, "")),
        ("cloudhub", CLOUD, (1, None, "")),
        ("devicecontroller", CLOUD[:2], (1, False, "")),
        ("edgecontroller", [], (0, False, "not heard yet")),
        ("cloudhub", [UnitHealth(unit="cloudhub", silent_since=NOW)], (0, None, "silent since 2023-11-14T22:13:20Z")),
    ],
)
def test_a_unit_of_the_cloud_has_replicas_and_a_leader(unit: str, cloud: list[UnitHealth], state: Any) -> None:
    found = unit_state(unit, cloud)
    assert (found.replicas, found.leader, found.wrong) == state


def test_a_fleet_in_which_all_is_well() -> None:
    found = tally(CLOUD, [("e", True, heard("e", pending=3))], [("default/d", twin("online"))], NOW, FRESH)
    assert found.well and found.waiting == 3 and found.nodes == {"ready": 1} and found.devices == {"online": 1}
    assert found.versions == {"0.1": ["e"], "0.2": ["cloudhub", "devicecontroller", "edgecontroller"]}


def test_who_is_in_trouble_is_named_up_to_a_bound_and_counted() -> None:
    nodes = [(f"e{i}", True, None) for i in range(50)]
    devices = [(f"default/d{i}", twin("offline")) for i in range(20)]
    devices += [("default/x", twin("online", Problem(code="ReadFailed", property="t")))]
    found = tally(CLOUD, nodes, [*devices, ("default/y", None)], NOW, FRESH)
    assert not found.well and len(found.troubled_nodes) == MOST_SHOWN and found.nodes == {"away": 50}
    assert found.troubled_nodes[0] == NodeState("e0", "away", 0, "not heard")
    assert found.troubled_devices_count == 21 and len(found.troubled_devices) == MOST_SHOWN
    assert found.devices == {"none": 1, "offline": 20, "online": 1}


def test_the_identities_that_end_first_are_shown_and_those_not_renewed_in_time_are_no_good() -> None:
    def says(unit: str, until: int, late: str = "no", **more: Any) -> UnitHealth:
        facts = {"identity_until": rfc3339(until), "identity_late": late}
        return UnitHealth(unit=unit, checks=CHECKS, facts=facts, **more)

    hour = 3_600_000
    link = {"link_until": rfc3339(NOW + hour), "link_late": "yes"}
    units = [says("edgehub", NOW + 3 * hour), says("mapper", NOW + 3 * hour), says("devicetwin", 5, silent_since=NOW)]
    edge = heard("e", units=[*units, UnitHealth(unit="edgeidentity", facts=link), UnitHealth(unit="x", facts={})])
    found = identities([("", [says("cloudhub", NOW + 2 * hour)]), ("e", edge.units)], NOW)
    assert [(one.node, one.units, (one.until - NOW) // hour, one.late) for one in found] == [
        ("e", "link", 1, True),
        ("", "cloudhub", 2, False),
        ("e", "edgehub, mapper", 3, False),
    ]
    shown = tally(CLOUD, [("e", True, edge)], [], NOW, FRESH)
    assert not shown.well and (shown.identities_count, shown.identities_late) == (2, 1)
    assert [one.late for one in identities([("e", [says("edgehub", NOW - 1000)])], NOW)] == [True], "over is late"


def test_a_fact_that_is_no_time_is_passed_over() -> None:
    assert identities([("e", [UnitHealth(unit="x", facts={"identity_until": "soon"})])], NOW) == []
