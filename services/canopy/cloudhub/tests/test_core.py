"""Tables of what a node may say, and what is then kept."""

from typing import Any

import msgspec
import pytest

from canopy.cloudhub.core import Bounds, Unacceptable, accepted, check_hello, negotiate, repeated, said, stored
from canopy.cloudhub.desired import WrongValue, check, patch
from canopy.cloudhub.view import EMPTY_HASH, View
from canopy.contracts.devices import Device, DeviceModel
from canopy.contracts.wire import (
    MAX_STATE_BYTES,
    MAX_TWINS,
    DeviceState,
    Hello,
    Problem,
    Side,
    StateEntry,
    TwinRecord,
    TwinState,
    encode,
)
from canopy.sync.sets import HashedSet, digest
from canopy.sync.up import Stored

BOUNDS = Bounds(twins=3, value_bytes=10)


@pytest.mark.parametrize(("theirs", "ours", "spoken"), [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((4, 9), (2, 5), 5)])
def test_the_highest_protocol_that_both_speak_is_spoken(
    theirs: tuple[int, int], ours: tuple[int, int], spoken: int
) -> None:
    assert negotiate(theirs, ours) == spoken


@pytest.mark.parametrize(("theirs", "who"), [((1, 2), "edge"), ((6, 7), "cloud")])
def test_without_a_common_protocol_both_ranges_are_named(theirs: tuple[int, int], who: str) -> None:
    with pytest.raises(Unacceptable, match=f"{theirs[0]} to {theirs[1]}, this cloud 3 to 5; update the {who}"):
        negotiate(theirs, (3, 5))


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ({"seen": -1}, "seen -1"),
        ({"seen": 2**62}, "seen"),
        ({"version": "x" * 65}, "version"),
        ({"version": "a\nb"}, "version"),
        ({"labels": {"a b": "c"}}, "labels: the key 'a b'"),
        ({"labels": {"a": "é"}}, "labels\\['a'\\]"),
        ({"labels": {"a": "x" * 64}}, "at most 63"),
        ({"labels": {f"k{i}": "" for i in range(65)}}, "65 of them"),
        ({"capacity": {"cpu": "many"}}, "a quantity such as 4"),
        ({"capacity": {"cpu": ""}}, "a quantity"),
        ({"protocol": (7, 8)}, "protocol"),
    ],
)
def test_a_hello_that_says_nonsense_is_refused_by_the_fields_name(hello: dict[str, Any], why: str) -> None:
    with pytest.raises(Unacceptable, match=why):
        check_hello(Hello(**hello))


def test_a_good_hello_passes() -> None:
    hello = Hello(version="0.1.0", seen=5, labels={"example.com/zone": "a-1", "x": ""}, capacity={"memory": "1.5Gi"})
    assert check_hello(hello) == 1


def test_what_is_kept_is_our_own_encoding_and_the_digest_is_of_the_nodes_bytes(make_report: Any) -> None:
    content = b'{ "twins": {"t": {"reported": {"value": "1"}}}, "injected": {"a": 1} }'
    record = accepted(said(make_report("d", "", content=msgspec.Raw(content))), "edge-1", (7, 3), 99, BOUNDS)
    assert (record.node, record.session, record.n, record.received) == ("edge-1", 7, 3, 99)
    assert record.digest == digest(content)
    assert b"injected" not in encode(record)
    assert stored(encode(record), 5) == Stored(StateEntry("default", "d", "u1", 1, digest(content)), (7, 3), 5)


STATE = b'{"twins":{"t":{"reported":{"value":"%s"%s}}}}'


@pytest.mark.parametrize(
    ("report", "why"),
    [
        ({"name": "A"}, "name 'A' is not a Kubernetes name"),
        ({"namespace": "a.*"}, "namespace"),
        ({"name": "a" * 254}, "name"),
        ({"uid": ""}, "uid"),
        ({"uid": "x" * 129}, "uid"),
        ({"revision": -1}, "revision -1"),
        ({"device_revision": 2**62}, "device_revision"),
        ({"content": b"[]"}, "content: Expected `object`"),
        ({"content": b'{"twins":{"t":{"reported":{}}}}'}, "content: .*value.*twins"),
        ({"content": b'{"state":"broken"}'}, "state 'broken': should be one of online"),
        ({"content": b'{"last_online":-5}'}, "last_online"),
        ({"content": STATE % (b"12345678901", b"")}, "twins\\['t'\\].reported.value: 11 bytes; should be at most 10"),
        ({"content": STATE % (b"1", b',"timestamp":-1')}, "timestamp"),
        ({"content": STATE % (b"1", b',"metadata":{"a":"' + b"x" * 300 + b'"}')}, "metadata"),
        ({"content": b'{"twins":{"a":{},"b":{},"c":{},"d":{}}}'}, "4 of them; should be at most 3"),
        ({"content": b'{"twins":{"":{}}}'}, "the property ''"),
        ({"content": b'{"twins":{"t":{"type":"' + b"x" * 33 + b'"}}}'}, "type"),
        ({"content": b'{"x":"' + b"x" * MAX_STATE_BYTES + b'"}'}, "state too large"),
        ({"content": b'{"twins":' + b"[" * 50_000 + b"]" * 50_000 + b"}"}, "content"),
    ],
)
def test_a_report_that_breaks_a_rule_is_refused_by_the_fields_name(
    make_report: Any, report: dict[str, Any], why: str
) -> None:
    if "content" in report:
        report["content"] = msgspec.Raw(report["content"])
    given = {"name": "d"} | report
    with pytest.raises(Unacceptable, match=why):
        accepted(said(make_report(given.pop("name"), "1", **given)), "edge-1", (1, 1), 0, BOUNDS)


@pytest.mark.parametrize(("twins", "value"), [(MAX_TWINS, "1"), (1, "x" * 128 * 1024)])
def test_what_the_edge_may_take_is_accepted(make_report: Any, twins: int, value: str) -> None:
    state = DeviceState(twins={f"k{i}": TwinState(reported=Side(value=value, timestamp=1)) for i in range(twins)})
    report = make_report("d", "1", content=msgspec.Raw(encode(state)))
    assert accepted(said(report), "edge-1", (1, 1), 0, Bounds()).state == state


def test_a_trace_that_is_no_trace_is_dropped_not_refused(make_report: Any) -> None:
    for trace, kept in (("00-ab-cd-01", "00-ab-cd-01"), ("x" * 500, ""), ("a\r\nb", "")):
        assert accepted(said(make_report("d", "1", trace=trace)), "n", (1, 1), 0, BOUNDS).trace == kept


def test_what_is_wrong_with_a_device_is_cut_and_never_refuses_its_state(make_report: Any) -> None:
    good = Problem(code="Unreachable", reason="no\x1b answer", since=5)
    nonsense = [Problem(code=""), Problem(code="a b"), Problem(code="Late", since=-1), Problem(code="x" * 99)]
    many = [Problem(code="ReadFailed", reason="r" * 999, property=f"p{i}") for i in range(99)]
    state = DeviceState(problems=[good, *nonsense, *many])
    kept = accepted(said(make_report("d", "1", content=msgspec.Raw(encode(state)))), "n", (1, 1), 0, BOUNDS)
    first, *others = kept.state.problems
    assert first == Problem(code="Unreachable", reason="no  answer", since=5)
    assert len(others) == 31 and all(len(p.reason) == 200 for p in others)


def test_the_second_of_a_device_in_a_batch_is_found(make_report: Any) -> None:
    items = [said(make_report(n, "1")) for n in ("a", "b", "a", "a")]
    assert repeated(items) == {2, 3}


def test_a_record_survives_its_encoding(make_report: Any) -> None:
    record = accepted(said(make_report("d", "1")), "edge-1", (1, 1), 0, BOUNDS)
    again = msgspec.json.decode(encode(record), type=TwinRecord)
    assert again == record and again.state.twins["t"].reported == Side(value="1", timestamp=1)


# --- the view ---------------------------------------------------------------------------------------------------------
def held(name: str, seq: int, revision: int = 1) -> Stored:
    return Stored(StateEntry("default", name, "u", revision, "0" * 16), (1, seq), seq)


def test_a_view_has_the_hash_of_what_it_holds_and_an_earlier_record_changes_nothing() -> None:
    view = View()
    assert view.hash("n") == EMPTY_HASH
    assert view.put("n", held("a", 5, revision=2)) and not view.put("n", held("a", 4))
    assert view.hash("n") == HashedSet([held("a", 5, revision=2).entry]).hash
    assert view.stamps("n") == [(1, 5)] and view.counts == (1, 1)


def test_a_purge_up_to_a_sequence_keeps_what_came_later() -> None:
    view = View()
    view.put("n", held("a", 5))
    view.drop("n", ("default", "a"), 4)
    assert view.get("n", ("default", "a")) == held("a", 5)
    view.drop("n", ("default", "a"), 5)
    assert view.hash("n") == EMPTY_HASH and view.counts == (0, 0)


def test_a_refresh_forgets_what_was_purged_but_not_what_was_written_meanwhile() -> None:
    view = View()
    for record in (held("purged", 1), held("kept", 2), held("rewritten", 3)):
        view.put("n", record)
    before = view.sequences("n")
    view.put("n", held("rewritten", 7))
    view.put("n", held("new", 8))
    view.refresh("n", before, [held("kept", 2)])
    assert view.sequences("n") == {("default", "kept"): 2, ("default", "rewritten"): 7, ("default", "new"): 8}


# --- desired ----------------------------------------------------------------------------------------------------------
def model(**prop: str) -> DeviceModel:
    given = {"name": "p", "type": "INT", "accessMode": "ReadWrite", **prop}
    return msgspec.convert({"spec": {"properties": [given]}}, DeviceModel)


@pytest.mark.parametrize(
    ("prop", "good", "bad"),
    [
        ({"type": "INT", "minimum": "-5", "maximum": "5"}, ["-5", "0", "+5"], ["-6", "6", "1.0", "", "1e3", "٣"]),
        ({"type": "INT"}, ["999999999999"], ["0x10", "9" * 5000]),
        ({"type": "FLOAT", "minimum": "0.5"}, ["0.5", "1e3"], ["0.4", "inf", "nan", "1_0", "a"]),
        ({"type": "DOUBLE", "maximum": "nonsense"}, ["1.5"], [""]),
        ({"type": "BOOLEAN"}, ["true", "False"], ["1", "yes", ""]),
        ({"type": "STRING"}, ["", "anything ✓"], ["x" * 65_537]),
        ({"type": "BYTES"}, ["aGk=", ""], ["a", "???"]),
        ({"accessMode": "ReadOnly"}, [], ["1"]),
    ],
)
def test_values_that_may_be_set(prop: dict[str, str], good: list[str], bad: list[str]) -> None:
    for value in good:
        check({"p": value}, Device(), model(**prop))
    for value in bad:
        with pytest.raises(WrongValue) as refused:
            check({"p": value}, Device(), model(**prop))
        assert refused.value.field == "p"


def test_the_patch_names_the_version_that_was_read_and_keeps_fields_that_we_do_not_know() -> None:
    device = {"metadata": {"resourceVersion": "7"}, "spec": {"properties": [{"name": "a", "future": 1}, {"name": "b"}]}}
    assert msgspec.json.decode(patch(device, {"b": "2", "c": "3"})) == {
        "metadata": {"resourceVersion": "7"},
        "spec": {
            "properties": [
                {"name": "a", "future": 1},
                {"name": "b", "desired": {"value": "2"}},
                {"name": "c", "desired": {"value": "3"}},
            ]
        },
    }
