"""What a batch says, in which order, and what it stores. Addresses are shortened to their last words."""

import json
from typing import Any

import pytest

from canopy.contracts import catalogue as c
from canopy.contracts.wire import AsOf, DeviceState, MapperReport, MapperResult, Problem, Side, TwinState
from canopy.devicetwin.batch import Batch, Context
from canopy.devicetwin.desired import Facts
from canopy.devicetwin.device import Device, Property, Spec
from canopy.devicetwin.events import Acknowledged, Event, Repeat, Reported, Resend, SetRead, Spoken
from canopy.devicetwin.shelf import Shelf, seal
from canopy.devicetwin.topics import Topics

NOW = 1_700_000_000_000
D1 = ("default", "d1")
HEAT = Spec(properties={"heat": Property(type="int")})


class Desk:
    """Takes batches one after the other, as `handlers` does, without a disk."""

    def __init__(self, *devices: Device) -> None:
        self.shelf = Shelf(devices)
        self.answers: list[MapperResult | None] = []
        self.last: Batch
        self._ids = 0

    def take(self, *events: Event) -> list[tuple[str, Any]]:
        """What is said: (the address's end, the body)."""
        context = Context(Topics("node"), self._new_id, lambda trace, _: trace, 65536)
        self.last = batch = Batch(self.shelf.devices, NOW, context)
        for event in events:
            batch.take(event)
        batch.finish()
        for name, found in batch.changes().items():
            if found is None:
                self.shelf.drop(name)
            else:
                self.shelf.put(found[0])
        for answer, result in batch.answers:
            answer(result)
        return [(_end(said.address), json.loads(said.body)) for said in batch.said]

    def _new_id(self) -> str:
        self._ids += 1
        return f"new{self._ids}"

    def report(self, mapper: str, seq: int, state: str = "", name: str = "d1", **values: str) -> Reported:
        report = MapperReport(namespace="default", name=name, mapper=mapper, seq=seq, values=values, state=state)
        return Reported(report, self.answers.append)


def _end(address: str) -> str:
    for head in ("$hw.events.device.", "$hw.events.node."):
        address = address.removeprefix(head)
    return address


def say(topic: Any, body: Any, name: str = "d1", namespace: str = "default", trace: str = "") -> Spoken:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Spoken(topic.at(namespace=namespace, name=name), data, trace)


def update(event: str = "e1", name: str = "d1", trace: str = "", **twin: Any) -> Spoken:
    return say(c.TWIN_UPDATE, {"event_id": event, "twin": twin}, name, trace=trace)


def actual(value: str) -> dict[str, Any]:
    return {"actual": {"value": value}}


def expected(value: str) -> dict[str, Any]:
    return {"expected": {"value": value}}


def device(spec: Spec = HEAT, name: str = "d1") -> Device:
    return seal(Device("default", name, "u1", spec=spec))[0]


@pytest.mark.parametrize("name", ["no_such_lamp", "UPPER", "-x"])
def test_a_device_whose_name_kubernetes_does_not_allow_is_unknown_like_any_other(name: str) -> None:
    [(address, body)] = Desk().take(update(name=name, t=actual("1")))
    assert (address, body["code"]) == (f"default.{name}.twin.update.result", 404)


def test_an_update_is_answered_with_result_document_and_delta_in_this_order() -> None:
    said = Desk(device()).take(update(heat=expected("5")))
    assert [a for a, _ in said] == [
        "default.d1.twin.update.result",
        "default.d1.twin.update.document",
        "default.d1.twin.update.delta",
        "twin.delta.default.d1",
    ]
    result, document, delta, mapper = (body for _, body in said)
    side = {"value": "5", "metadata": {"timestamp": NOW}}
    twin = {"expected": side, "optional": True, "metadata": {"type": "int"}}
    assert result == {"event_id": "e1", "timestamp": NOW, "twin": {"heat": twin}}
    assert document == {"event_id": "e1", "timestamp": NOW, "twin": {"heat": {"last": None, "current": twin}}}
    assert delta == {"event_id": "new1", "timestamp": NOW, "twin": {"heat": twin}, "delta": {"heat": "5"}}
    assert mapper == {"namespace": "default", "name": "d1", "desired": {"heat": "5"}}


def test_a_batch_of_one_device_is_stored_once_and_answered_for_each_update() -> None:
    desk = Desk(device())
    said = desk.take(*(update(f"e{i}", heat=actual(str(i))) for i in range(3)))
    assert [b["event_id"] for a, b in said if a.endswith("result")] == ["e0", "e1", "e2"]
    documents = [b["twin"]["heat"] for a, b in said if a.endswith("document")]
    assert [(d["last"] or {}).get("actual", {}).get("value") for d in documents] == [None, "0", "1"]
    assert len(desk.last.changes()) == 1 and desk.shelf.devices[D1].revision == 3


def test_an_equal_value_is_answered_and_nothing_is_stored() -> None:
    desk = Desk(device())
    desk.take(update(heat=actual("1")))
    said = desk.take(update("e2", heat=actual("1")))
    assert [b["event_id"] for _, b in said] == ["e2", "e2"]
    assert desk.last.changes() == {}


def test_every_report_that_still_differs_says_the_delta_again_and_mappers_hear_it_once_a_batch() -> None:
    desk = Desk(device())
    desk.take(update(heat=expected("5")))
    said = [a for a, _ in desk.take(update(heat=actual("1")), update(heat=actual("2")))]
    assert said.count("default.d1.twin.update.delta") == 2
    assert said.count("twin.delta.default.d1") == 1


@pytest.mark.parametrize(
    ("topic", "body", "end"),
    [
        (c.TWIN_UPDATE, {"event_id": "e1", "twin": {"t": actual("1")}}, "twin.update.result"),
        (c.STATE_UPDATE, {"event_id": "e1", "state": "online"}, "state.update.result"),
        (c.TWIN_GET, {"event_id": "e1"}, "twin.get.result"),
    ],
)
def test_an_unknown_device_gets_404_on_its_own_topic(topic: Any, body: Any, end: str) -> None:
    ((address, said),) = Desk().take(say(topic, body, "a.b"))
    assert address == f"default.a//b.{end}"
    reason = "update rejected due to the device is not existed"
    assert said == {"event_id": "e1", "timestamp": NOW, "code": 404, "reason": reason}


@pytest.mark.parametrize("topic", [c.TWIN_UPDATE, c.STATE_UPDATE, c.TWIN_GET])
def test_what_is_no_json_gets_400_on_the_devices_own_topic(topic: Any) -> None:
    desk = Desk(device())
    ((address, said),) = desk.take(say(topic, b'{"event_id":"e1"'))
    assert address.startswith("default.d1.") and (said["code"], said["event_id"]) == (400, "e1")


def test_a_bad_message_does_not_hurt_the_next_one() -> None:
    said = Desk(device()).take(update(t={"actual": {}}), update("e2", t=actual("1")))
    assert ["code" in b for a, b in said if a.endswith("result")] == [True, False]


def test_an_empty_twin_is_refused() -> None:
    ((_, said),) = Desk(device()).take(update())
    assert said["code"] == 400 and "twin is empty" in said["reason"]


def test_online_says_what_the_device_should_be() -> None:
    desk = Desk(device())
    desk.take(update(heat=expected("5")))
    said = desk.take(say(c.STATE_UPDATE, {"event_id": "s1", "state": "Online"}))
    assert [a for a, _ in said][:2] == ["default.d1.state.update.result", "default.d1.twin.update.delta"]
    shown = {"name": "d1", "state": "online", "lastOnlineTime": "2023-11-14T22:13:20Z"}
    assert said[0][1]["device"] == shown and said[0][1]["event_id"] != "s1"


def test_a_get_may_have_an_empty_payload() -> None:
    ((address, said),) = Desk(device()).take(say(c.TWIN_GET, b""))
    assert (address, said["twin"]) == ("default.d1.twin.get.result", {})


def test_the_members_are_the_rows() -> None:
    spec = Spec(attributes={"serial": "S1"})
    desk = Desk(device(name="b"), device(spec, name="a"))
    ((address, said),) = desk.take(Spoken(c.MEMBERSHIP_GET.at(node="node"), b'{"event_id":"m"}'))
    assert address == "node.membership.get.result"
    assert [d["id"] for d in said["devices"]] == ["default/a", "default/b"]
    attribute = {"value": "S1", "optional": True, "metadata": {"type": "string"}}
    assert said["devices"][0]["attributes"] == {"serial": attribute}
    assert desk.take(Spoken(c.MEMBERSHIP_GET.at(node="other"), b"{}")) == []


def test_a_report_of_a_mapper_is_answered_with_what_is_still_desired() -> None:
    desk = Desk(device())
    desk.take(update(heat=expected("5")))
    said = desk.take(desk.report("m1", 1, heat="4"))
    assert desk.answers == [MapperResult(outcome="ok", desired={"heat": "5"})]
    assert [a for a, _ in said] == ["default.d1.twin.update.document"]
    desk.take(desk.report("m1", 2, heat="5"))
    assert desk.answers[-1] == MapperResult(outcome="ok")


def test_a_mappers_repeat_is_ok_and_an_older_report_of_it_says_nothing() -> None:
    desk = Desk(device())
    desk.take(desk.report("m1", 2, heat="4"))
    desk.take(desk.report("m1", 2, heat="4"), desk.report("m1", 1, heat="3"))
    assert [a.outcome for a in desk.answers if a] == ["ok", "ok", "older"]
    assert desk.last.changes() == {}
    desk.take(desk.report("m2", 1, heat="7"))
    held = desk.shelf.devices[D1].state.twins["heat"].reported
    assert held is not None and held.value == "7"


def test_a_mapper_is_refused_what_is_wrong_and_what_is_unknown() -> None:
    desk = Desk(device())
    desk.take(desk.report("m1", 1, heat="x"), desk.report("m1", 1, name="d9", heat="1"))
    desk.take(desk.report("m1", 2, state="asleep", heat="1"))
    assert [a.outcome for a in desk.answers if a] == ["refused"] * 3
    assert desk.shelf.devices[D1].revision == 0


def test_a_set_brings_devices_takes_them_away_and_begins_another_uid_anew() -> None:
    desk = Desk(device(), device(name="gone"))
    desk.take(update(heat=actual("1")))
    facts = {D1: Facts("u2", 3, HEAT), ("default", "new"): Facts("u3", 4, HEAT)}
    said = desk.take(SetRead(facts, AsOf(epoch=1, revisions={})))
    assert [a for a, _ in said] == ["node.membership.updated"] * 4
    moves = [[(d["name"], k) for k in ("added_devices", "removed_devices") for d in b[k] or []] for _, b in said]
    assert moves == [
        [("gone", "removed_devices")],
        [("d1", "removed_devices")],
        [("d1", "added_devices")],
        [("new", "added_devices")],
    ]
    assert set(desk.shelf.devices) == set(facts)
    anew = desk.shelf.devices[D1]
    assert (anew.uid, anew.device_revision, anew.revision, anew.state.twins) == ("u2", 3, 0, {})
    assert desk.shelf.summary.pending == 0


def test_a_desired_value_of_the_cloud_is_documented_and_said_at_once() -> None:
    desk = Desk(device())
    wanted = Spec(properties={"heat": Property(type="int", desired="7")})
    said = desk.take(SetRead({D1: Facts("u1", 3, wanted)}, AsOf(epoch=1, revisions={})))
    assert [a for a, _ in said] == [
        "default.d1.twin.update.document",
        "default.d1.twin.update.delta",
        "twin.delta.default.d1",
    ]
    assert desk.take(SetRead({D1: Facts("u1", 3, wanted)}, AsOf(epoch=1, revisions={}))) == []
    assert desk.last.changes() == {}


def test_a_delta_is_repeated_on_both_ways() -> None:
    desk = Desk(device())
    desk.take(update(heat=expected("5")))
    said = [a for a, _ in desk.take(Repeat((D1, ("default", "gone"))))]
    assert said == ["default.d1.twin.update.delta", "twin.delta.default.d1"]


def test_only_what_is_still_held_is_acknowledged() -> None:
    desk = Desk(device())
    desk.take(update(heat=actual("1")))
    first = desk.shelf.devices[D1].entry
    desk.take(update(heat=actual("2")), Acknowledged((first,)))
    assert not desk.shelf.devices[D1].acknowledged
    desk.take(Acknowledged((first,)))
    assert desk.shelf.summary.pending == 1
    desk.take(Acknowledged((desk.shelf.devices[D1].entry,)))
    assert desk.shelf.summary.pending == 0
    desk.take(Resend((D1, ("default", "unknown"))))
    assert [d.key for d in desk.shelf.unreported()] == [D1]


def test_what_the_cloud_refused_waits_until_it_changes() -> None:
    desk = Desk(device())
    desk.take(update(heat=actual("1")))
    desk.shelf.refuse(desk.shelf.devices[D1].entry)
    assert list(desk.shelf.unreported()) == []
    desk.take(update(heat=actual("2")))
    assert [d.key for d in desk.shelf.unreported()] == [D1]


def _traceparent(digit: str) -> str:
    return f"00-{digit * 32}-{digit * 16}-01"


def test_a_row_bears_the_traces_of_the_changes_that_have_not_gone_up() -> None:
    desk = Desk(device())
    desk.take(update(heat=actual("1"), trace=_traceparent("1")))
    assert desk.shelf.devices[D1].trace == _traceparent("1")
    desk.take(say(c.TWIN_UPDATE, {"twin": {"heat": actual("2")}, "traceparent": _traceparent("2")}))
    both = f"{_traceparent('1')},{_traceparent('2')}"
    assert desk.shelf.devices[D1].trace == both
    desk.take(update(heat=actual("2"), trace=_traceparent("3")))
    assert desk.shelf.devices[D1].trace == both, "nothing changed"
    desk.take(update(heat=actual("3")))
    assert desk.shelf.devices[D1].trace == both, "nobody asked for another trace"
    desk.take(Acknowledged((desk.shelf.devices[D1].entry,)))
    desk.take(update(heat=actual("4"), trace=_traceparent("4")))
    assert desk.shelf.devices[D1].trace == _traceparent("4")


def test_a_bug_in_one_event_is_counted_and_does_not_stop_the_batch() -> None:
    desk = Desk(device())
    broken = Spoken(c.TWIN_UPDATE.at(namespace="default", name="d1"), None)  # type: ignore[arg-type]
    said = desk.take(broken, update("e2", heat=actual("1")))
    assert len(desk.last.bugs) == 1
    results = [(s[1].get("code"), s[1]["event_id"]) for s in said if s[0].endswith("result")]
    assert results == [(500, ""), (None, "e2")]


def test_a_device_that_shows_a_bug_stays_as_it_is_and_the_others_of_the_set_are_taken() -> None:
    desk = Desk(device(), Device("default", "d2", "u2"))
    broken = Facts("u1", 8, None)  # type: ignore[arg-type]
    said = desk.take(SetRead({D1: broken, ("default", "d3"): Facts("u3", 8, Spec())}, AsOf(epoch=1, revisions={})))
    assert [b.source for b in desk.last.bugs] == ["Device default/d1"]
    assert set(desk.shelf.devices) == {D1, ("default", "d3")} and desk.shelf.devices[D1].device_revision == 0
    assert sum(address.endswith("membership.updated") for address, _ in said) == 2


def test_what_a_mapper_says_is_wrong_is_kept_with_the_state_until_it_says_otherwise() -> None:
    desk = Desk(Device(*D1, "u1"))
    trouble = Problem(code="Unreachable", reason="no answer", since=5)
    report = MapperReport(namespace="default", name="d1", mapper="m1", seq=1, state="offline", problems=[trouble])
    desk.take(Reported(report, desk.answers.append))
    assert desk.shelf.devices[D1].state.problems == [trouble]
    desk.take(desk.report("m1", 2, heat="21"))
    assert desk.shelf.devices[D1].state.problems == [trouble]
    desk.take(Reported(MapperReport(namespace="default", name="d1", mapper="m1", seq=3, problems=[]), print))
    assert desk.shelf.devices[D1].state.problems == []


def test_a_mapper_does_not_take_back_what_this_node_refuses() -> None:
    ours = Problem(code="DesiredRefused", reason="too hot", property="heat", since=1)
    desk = Desk(seal(Device(*D1, "u1", state=DeviceState(problems=[ours]), revision=1))[0])
    theirs = Problem(code="DesiredRefused", reason="forged", property="heat", since=2)
    desk.take(Reported(MapperReport(namespace="default", name="d1", mapper="m1", seq=1, problems=[theirs]), print))
    assert desk.shelf.devices[D1].state.problems == [ours]


def test_where_a_state_is_full_the_values_go_before_the_problems() -> None:
    twins = {f"p{i}": TwinState(reported=Side(value="x" * 60_000)) for i in range(3)}
    twins["p3"] = TwinState(reported=Side(value="x" * 24_000))
    full = seal(Device(*D1, "u1", state=DeviceState(twins=twins), revision=1))[0]
    desk = Desk(full)
    many = [Problem(code="ReadFailed", reason="y" * 200, property=f"p{i}", since=1) for i in range(40)]
    desk.take(Reported(MapperReport(namespace="default", name="d1", mapper="m1", seq=1, problems=many), print))
    assert desk.shelf.devices[D1].state == full.state
