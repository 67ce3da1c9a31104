"""A cloud serves edges two releases older, and what is stored or rolled out meets both: every message of those releases
(`releases/`) is read today, and every message of today was readable then. Both ways, field by field, and as a session.
"""

import importlib.util
import json
import random
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from canopy.cloudhub import core as cloud
from canopy.contracts import catalogue, identity_wire, wire
from canopy.edgehub import core as edge
from canopy.sync.sets import digest

RELEASES = sorted((Path(__file__).parent / "releases").glob("[0-9]*"))
STRANGE = "a_field_of_a_later_release"


def _wire_of(folder: Path) -> ModuleType:
    name = f"wire_{folder.name.replace('-', '_')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, folder / "wire.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(params=RELEASES, ids=lambda folder: folder.name)
def then(request: pytest.FixtureRequest) -> ModuleType:
    """The wire as a release had it."""
    return _wire_of(request.param)


# --- a message with something in every field --------------------------------------------------------------------------
def full(kind: Any, name: str = "") -> Any:
    """A value of this type in which nothing is a default: what is left out on the wire would prove nothing."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind(**{f.name: full(f.type, f.name) for f in msgspec.structs.fields(kind)})
    if origin in MADE:
        return MADE[origin](arguments, name)
    if origin is not None:  # T | None
        return full(next(a for a in arguments if a is not type(None)), name)
    return PLAIN[kind](name)


MADE: dict[Any, Callable[[Any, str], Any]] = {
    list: lambda of, name: [full(of[0], name)],
    dict: lambda of, name: {f"key of {name}": full(of[1], name)},
    tuple: lambda of, name: tuple(full(one, f"{name}{i}") for i, one in enumerate(of)),
}
PLAIN: dict[Any, Callable[[str], Any]] = {
    str: lambda name: f"some {name}",
    int: lambda name: 1000 + len(name),
    float: lambda name: 1.5 + len(name),
    bool: lambda name: True,
    msgspec.Raw: lambda name: msgspec.Raw(b'{"some":"json"}'),
}


def contains(new: Any, old: Any) -> bool:
    """Whether everything of `old` stands in `new`: fields of an object, the first places of an array."""
    if isinstance(old, dict):
        return isinstance(new, dict) and all(k in new and contains(new[k], v) for k, v in old.items())
    if isinstance(old, list):
        return isinstance(new, list) and len(new) >= len(old) and all(map(contains, new, old))
    return bool(new == old)


def read(body: bytes, kind: Any) -> Any:
    return msgspec.json.decode(body, type=kind)


def test_what_an_older_release_says_is_read_whole(then: ModuleType) -> None:
    for old in then.all_messages():
        body = then.encode(full(old))
        again = wire.encode(read(body, getattr(wire, old.__name__)))
        assert contains(json.loads(again), json.loads(body)), old.__name__


def test_what_is_said_today_means_the_same_to_an_older_release(then: ModuleType) -> None:
    for old in then.all_messages():
        body = wire.encode(full(getattr(wire, old.__name__)))
        assert read(body, old) == full(old), old.__name__


def test_what_a_later_release_adds_is_kept_out_of_the_way() -> None:
    for message in (*wire.all_messages(), *identity_wire.all_messages()):
        here = full(message)
        body = wire.encode(here)[:-1]
        if message.__struct_config__.array_like:
            assert read(body + b', {"some": ["thing"]}]', message) == here
        else:
            assert read(body + (b"," if len(body) > 1 else b"") + strange(), message) == here, message.__name__


def strange() -> bytes:
    return json.dumps({STRANGE: {"some": ["thing", None, 1.5]}}).encode()[1:]


@pytest.mark.parametrize("folder", RELEASES, ids=lambda folder: folder.name)
def test_every_subject_of_an_older_release_is_still_there(folder: Path) -> None:
    now = {
        s.pattern: (getattr(s.message, "__name__", ""), getattr(s.answer, "__name__", "-"), s.queue or "-")
        for s in catalogue.subjects().values()
    }
    for line in (folder / "subjects.txt").read_text().splitlines():
        pattern, *columns = line.split()
        if pattern.startswith("node."):
            assert now[pattern] == tuple(columns[-3:]), pattern


# --- a session, both ways ---------------------------------------------------------------------------------------------
def test_an_older_edge_is_greeted_and_understands_the_answer(then: ModuleType) -> None:
    hello = read(then.encode(then.Hello(version="0.0.1", seen=5, labels={"zone": "north"})), wire.Hello)
    protocol = cloud.check_hello(hello)
    answer = wire.HelloAnswer(session=6, nonce="n", protocol=protocol, time=1, cluster="uid")
    heard = read(wire.encode(answer), then.HelloAnswer)
    assert (heard.verdict, heard.session, heard.nonce, heard.cluster) == ("ok", 6, "n", "uid")
    assert then.PROTOCOL[0] <= heard.protocol <= then.PROTOCOL[1]


def test_an_older_cloud_is_understood_by_an_edge(then: ModuleType) -> None:
    machine = edge.Machine(random.Random(1))
    machine.on(edge.Due(), 0.0)
    said = read(wire.encode(wire.Hello(edge="run", n=3, version="0.2.0")), then.Hello)
    assert said.version == "0.2.0"
    answer = then.HelloAnswer(session=6, nonce="n", protocol=then.PROTOCOL[1], time=1)
    machine.on(edge.Greeted(read(then.encode(answer), wire.HelloAnswer), 1), 1.0)
    assert machine.up
    assert machine.link.session == 6


def test_a_report_of_an_older_edge_is_stored_and_answered_so_that_it_can_tell(then: ModuleType) -> None:
    state = then.DeviceState(twins={"t": then.TwinState(reported=then.Side(value="7", timestamp=1))}, state="online")
    report = then.Report(
        namespace="default", name="d", uid="u", device_revision=1, revision=2, content=msgspec.Raw(then.encode(state))
    )
    batch = read(then.encode(then.ReportBatch(session=6, n=1, reports=[report])), wire.ReportBatch)
    said = cloud.said(batch.reports[0])
    record = cloud.accepted(said, "edge-1", (batch.session, batch.n), 1, cloud.Bounds())
    assert record.state.twins["t"].reported == wire.Side(value="7", timestamp=1)
    results = read(wire.encode(wire.ReportResults(results=[said.result("ok")])), then.ReportResults)
    assert (results.verdict, results.results[0].outcome) == ("ok", "ok")
    assert results.results[0].digest == digest(then.encode(state))


def test_a_beat_of_an_older_edge_is_answered_so_that_it_sends_its_page(then: ModuleType) -> None:
    beat = read(then.encode(then.Beat(session=6, n=2, health={"edgehub": "ok"}, hash="00")), wire.Beat)
    assert (beat.session, beat.n, beat.hash, beat.health) == (6, 2, "00", {"edgehub": "ok"})
    assert read(wire.encode(wire.BeatAnswer(page=True)), then.BeatAnswer).page


def test_an_edge_of_a_later_protocol_is_told_what_to_update() -> None:
    with pytest.raises(cloud.Unacceptable, match="update the cloud"):
        cloud.negotiate((wire.PROTOCOL[1] + 1, wire.PROTOCOL[1] + 2))


def test_an_edge_that_speaks_two_protocols_is_served_in_the_one_that_both_know() -> None:
    assert cloud.negotiate((wire.PROTOCOL[0], wire.PROTOCOL[1] + 1)) == wire.PROTOCOL[1]
