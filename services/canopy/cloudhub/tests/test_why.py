"""Why a device does not do what it should, as a table: the facts, the step that stops, words of its text."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from canopy.cloudhub.steps import Facts, NodeFacts
from canopy.cloudhub.why import judge
from canopy.contracts.devices import Device, DeviceModel, DeviceStatus
from canopy.contracts.wire import DeviceState, Presence, Problem, Side, TwinRecord, TwinState, UnitCheck, UnitHealth

NOW = 1_700_000_000_000
AGO = NOW - 60_000
OK = [UnitCheck(check="running")]


def device(**spec: Any) -> Device:
    given = {
        "nodeName": "edge-1",
        "deviceModelRef": {"name": "lamp"},
        "protocol": {"protocolName": "modbus"},
        "properties": [{"name": "level"}],
    }
    meta = {"name": "light", "namespace": "default", "uid": "u1", "generation": 3}
    return msgspec.convert({"metadata": meta, "spec": given | spec}, Device)


def wishing(value: str) -> Device:
    return device(properties=[{"name": "level", "desired": {"value": value}}])


MQTT = device(protocol={"protocolName": "mqtt"})
MODEL = msgspec.convert({"spec": {"properties": [{"name": "level"}, {"name": "power"}]}}, DeviceModel)


def unit(name: str, run: str = "r1", wrong: str = "", silent: int = 0, **facts: str) -> UnitHealth:
    checks = [UnitCheck(check="running", ok=not wrong, detail=wrong)]
    return UnitHealth(unit=name, run=run, checks=checks, facts=facts, silent_since=silent)


MODBUS = unit("mapper", protocol="modbus")
EDGE = [unit("edgehub"), unit("metamanager"), unit("devicetwin")]


def presence(*units: UnitHealth, at: int = NOW - 2_000) -> Presence:
    return Presence(node="edge-1", at=at, session=9, units=[*EDGE, *units])


def record(level: str = "1", expected: str | None = None, at: int = AGO, **state: Any) -> TwinRecord:
    side = Side(value=expected, timestamp=AGO) if expected is not None else None
    twins = {"level": TwinState(reported=Side(value=level, timestamp=at), expected=side, type="int")}
    return TwinRecord(
        node="edge-1", namespace="default", name="light", uid="u1", device_revision=3, session=7, n=4, revision=5,
        digest="x", received=at, state=DeviceState(**({"twins": twins, "state": "online"} | state)),
    )  # fmt: skip


def shown(n: int = 4) -> DeviceStatus:
    stamp = {"canopy": {"node": "edge-1", "session": 7, "n": n}}
    return msgspec.convert({"status": {"extensions": stamp}}, DeviceStatus)


LED = unit("devicecontroller", leads="yes", kubernetes="ok")
GOOD = Facts(
    "default",
    "light",
    NOW,
    device=device(),
    model=MODEL,
    node=NodeFacts(managed=True, ready=True),
    presence=presence(MODBUS),
    cloud=(LED,),
    record=record(),
    status=shown(),
)


def problem(code: str, reason: str = "because", property: str = "") -> Problem:
    return Problem(code=code, reason=reason, property=property, since=AGO, last_success=AGO - 1)


def troubled(*problems: Problem, state: str = "online") -> TwinRecord:
    return record(problems=list(problems), state=state)


def but(**changes: Any) -> Facts:
    return replace(GOOD, **changes)


HIDDEN: dict[str, Any] = {"node": None, "node_hidden": True}
TABLE: list[tuple[str, Facts, str | None, str]] = [
    ("all is well", GOOD, None, ""),
    ("a wish that came true", but(device=wishing("1")), None, ""),
    ("a wish written otherwise", but(device=wishing("1.0")), None, ""),
    ("an MQTT device without any mapper", but(device=MQTT, presence=presence()), None, ""),
    ("who may not see nodes", but(**HIDDEN), None, ""),
    # Kubernetes
    (
        "Kubernetes away",
        but(kube_error="no connection", device=None),
        "kubernetes",
        "does not answer CloudHub: no conn",
    ),
    ("no such Device", but(device=None, names=("light-1", "pump")), "kubernetes", "is it light-1?"),
    ("no such Device, nothing near", but(device=None, names=("pump",)), "kubernetes", "namespace default"),
    ("no node named", but(device=device(nodeName="")), "kubernetes", "spec.nodeName is empty"),
    ("no model named", but(device=device(deviceModelRef=None)), "kubernetes", "spec.deviceModelRef.name is empty"),
    (
        "unknown model",
        but(model=None, models=("lamps",)),
        "kubernetes",
        "no DeviceModel lamp in the namespace default; i",
    ),
    (
        "a property of no model",
        but(device=device(properties=[{"name": "hue"}])),
        "kubernetes",
        "no property hue; it has l",
    ),
    # the cloud
    ("no leader", but(cloud=(unit("devicecontroller", leads="no"),)), "controller", "none of 1 devicecontroller leads"),
    ("no controller", but(cloud=(unit("devicecontroller", silent=AGO),)), "controller", "devicecontroller is silent"),
    (
        "a controller that sees nothing",
        but(cloud=(unit("devicecontroller", leads="yes", kubernetes="403"),)),
        "controller",
        "cannot watch Kubernetes: 403",
    ),
    # the link and the node
    ("the link is cut", but(presence=presence(MODBUS, at=AGO)), "link", "edge-1 is away"),
    ("never seen", but(presence=None, node=None, nodes=("edge-2",)), "link", "never been seen: no edge of that name"),
    ("a kubelet's node", but(presence=None, node=NodeFacts(False, True)), "link", "edge-1 is a kubelet's"),
    ("not heard since a restart", but(presence=None, node=NodeFacts(True, False, AGO)), "link", "not been heard since"),
    ("heard, not admitted", but(node=None), "link", "heard, but not admitted"),
    (
        "a unit of the node is silent",
        but(presence=Presence(node="edge-1", at=NOW, session=9, units=[unit("devicetwin", silent=AGO)])),
        "node",
        "devicetwin on edge-1: silent since",
    ),
    (
        "a unit of the node is not well",
        but(presence=Presence(node="edge-1", at=NOW, session=9, units=[unit("metamanager", wrong="disk full")])),
        "node",
        "metamanager on edge-1: running: disk full",
    ),
    # the mapper
    (
        "its process is dead",
        but(presence=presence(unit("mapper", silent=AGO, protocol="modbus"))),
        "mapper",
        "is silent",
    ),
    (
        "two mappers",
        but(presence=presence(MODBUS, unit("mapper", "r2", protocol="Modbus"))),
        "mapper",
        "2 mappers for modb",
    ),
    ("none at all", but(presence=presence(), record=None), "mapper", "speaks modbus: it has none at all"),
    (
        "one of another protocol",
        but(presence=presence(unit("mapper", protocol="lamp")), record=None),
        "mapper",
        "speaks modbus: it has one for lamp",
    ),
    (
        "one that is not well",
        but(presence=presence(unit("mapper", wrong="x", protocol="modbus"))),
        "mapper",
        "says running: x",
    ),
    # the device
    (
        "silent",
        but(record=troubled(problem("Unreachable", "no answer"), state="offline")),
        "device",
        "mapper: no answer",
    ),
    (
        "misconfigured",
        but(record=troubled(problem("Misconfigured", "port"), state="unhealthy")),
        "device",
        "wrong: port",
    ),
    (
        "a wrong register",
        but(record=troubled(problem("ReadFailed", "illegal data address", "level"))),
        "device",
        "property level cannot be read: illegal data address; the device itself answers",
    ),
    ("offline by its own word", but(device=MQTT, record=record(state="offline")), "device", "it is offline"),
    ("an MQTT device that never spoke", but(device=MQTT, record=None), "device", "never reported anything over MQTT"),
    # the way back
    (
        "the edge refuses the wish",
        but(device=wishing("101"), record=troubled(problem("DesiredRefused", "above 100", "level"))),
        "desired",
        "the edge refuses level=101: above 100",
    ),
    (
        "the mapper cannot write it",
        but(device=wishing("7"), record=troubled(problem("WriteFailed", "busy", "level"))),
        "desired",
        "the mapper could not write level=7: busy",
    ),
    ("not yet at the node", but(device=wishing("7")), "desired", "level=7 has not been taken by the node yet"),
    ("not fulfilled", but(device=wishing("7"), record=record("1", "7")), "desired", "not fulfilled: the device says 1"),
    ("the edge wants otherwise", but(device=wishing("7"), record=record("1", "9")), "desired", "the edge goes by 9"),
    ("Kubernetes shows what was", but(status=shown(3)), "status", "is behind the live twin"),
    ("Kubernetes shows nothing", but(status=None), "status", "is not there"),
]


@pytest.mark.parametrize(("case", "facts", "stops", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_the_first_step_that_stops_the_way_is_named(case: str, facts: Facts, stops: str | None, words: str) -> None:
    verdict = judge(facts)
    assert (verdict.stops.name if verdict.stops else None) == stops, verdict
    if verdict.stops is not None:
        assert words in verdict.stops.text and 1 <= len(verdict.stops.tries) <= 3
        assert verdict.stops in verdict.steps
    assert len(verdict.steps) in (1, 9)


UNKNOWN: list[tuple[str, Facts, str, str]] = [
    (
        "an older edge says nothing of its units",
        but(presence=Presence(node="edge-1", at=NOW, session=1)),
        "mapper",
        "not say",
    ),
    (
        "an MQTT device with nothing new",
        but(device=MQTT, record=record(at=NOW - 3_600_000)),
        "device",
        "look like silence",
    ),
    ("a wish of just now", but(device=wishing("7"), record=record("1", "7"), now=AGO + 1), "desired", "just now"),
    ("a status of just now", but(status=shown(3), now=AGO + 1), "status", "is being written"),
    ("a device that nothing was heard of", but(record=None), "device", "nothing was ever heard"),
    ("a CloudHub that has just begun", but(cloud=()), "controller", "not been heard since"),
    ("reports without a known mapper", but(presence=presence()), "mapper", "reports all the same"),
    (
        "a strange property of an MQTT device",
        but(device=device(properties=[{"name": "hue"}], protocol={})),
        "kubernetes",
        "hue",
    ),
]


@pytest.mark.parametrize(("case", "facts", "step", "words"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_what_is_not_known_is_said_to_be_so_and_stops_nothing(case: str, facts: Facts, step: str, words: str) -> None:
    verdict = judge(facts)
    (found,) = [s for s in verdict.steps if s.name == step]
    assert found.verdict == "unknown" and words in found.text
    assert verdict.stops is None


def test_what_a_silent_mapper_last_said_of_the_device_is_told_as_that() -> None:
    dead = presence(unit("mapper", silent=AGO, protocol="modbus"))
    verdict = judge(but(presence=dead, record=troubled(problem("ReadFailed", "x", "level"))))
    assert [s.verdict for s in verdict.steps[4:]] == ["ok", "stop", "unknown", "unknown", "ok"]


def test_a_device_that_cannot_be_read_does_not_hide_a_wish_that_is_refused() -> None:
    both = troubled(problem("ReadFailed", "x", "power"), problem("DesiredRefused", "y", "level"))
    verdict = judge(but(device=wishing("101"), record=both))
    assert [s.name for s in verdict.steps if s.verdict == "stop"] == ["device", "desired"]


def test_an_mqtt_device_is_told_its_topics() -> None:
    never = judge(but(device=MQTT, record=None)).stops
    assert never is not None and "$hw/events/device/default/light/twin/update?" in never.tries[0]
    wish = device(protocol={}, properties=[{"name": "level", "desired": {"value": "7"}}])
    open_ = judge(but(device=wish, presence=presence(), record=record("1", "7", at=NOW))).stops
    assert open_ is not None and open_.tries[1].endswith("$hw/events/device/default/light/twin/update/delta")


def test_beyond_a_cut_all_is_told_as_it_was_last_known() -> None:
    facts = but(presence=presence(MODBUS, at=AGO), record=troubled(problem("Unreachable"), state="offline"))
    verdict = judge(facts)
    beyond = verdict.steps[3:8]
    assert [s.name for s in beyond] == ["node", "devicetwin", "mapper", "device", "desired"]
    assert all(s.verdict == "unknown" and s.text.startswith("last known: ") and not s.tries for s in beyond)
    assert verdict.stops is not None and verdict.stops.since == AGO
