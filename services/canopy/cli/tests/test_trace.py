"""`canopy trace`: the tree, the list, and what is said when there is none."""

import json
from typing import Any

from canopy.cli.trace import drawn

TRACE = "ab" * 16


def span(id: str, parent: str = "", start: int = 0, name: str = "", **more: Any) -> dict[str, Any]:
    given = {
        "id": id,
        "parent": parent,
        "start_ns": start,
        "name": name or id,
        "unit": "u",
        "node": "",
        "kind": "server",
    }
    return {**given, "duration_ms": 1.5, "error": "", **more}


def names(*spans: dict[str, Any]) -> list[str]:
    return [row[0] for row in drawn(spans)]


def test_children_stand_indented_below_their_parent_by_when_they_began() -> None:
    spans = (span("c", "a", 30), span("a", start=10), span("d", "b", 25), span("b", "a", 20))
    assert names(*spans) == ["a", "  b", "    d", "  c"]


def test_a_span_whose_parent_is_not_there_is_a_root() -> None:
    assert names(span("b", "gone", 5), span("a", start=10)) == ["b", "a"]


def test_spans_that_name_each_other_as_parents_end() -> None:
    assert names(span("a", "a"), span("b", "c"), span("c", "b")) == ["a"]


def test_a_thousand_levels_are_drawn() -> None:
    spans = [span(str(i), str(i - 1), i) for i in range(1000)]
    assert len(drawn(spans)) == 1000


def test_a_line_says_who_when_how_long_and_what_went_wrong() -> None:
    rows = drawn([span("a", start=1_000_000), span("b", "a", 3_500_000, node="n", duration_ms=1500.0, error="no")])
    assert rows == [("a", "u", "+0.0 ms", "1.5 ms", " "), ("  b", "u@n", "+2.5 ms", "1.50 s", "error: no")]


def test_the_last_trace_of_a_device_is_drawn(canopy: Any, fleet: Any) -> None:
    fleet.answers["GET", "/api/v1/traces?device=default%2Flight&limit=1"] = (200, {"traces": [{"trace_id": TRACE}]})
    found = {"trace_id": TRACE, "devices": ["default/light"], "start_ns": 10**18, "tree": [span("a"), span("b", "a")]}
    fleet.answers["GET", f"/api/v1/traces/{TRACE}"] = (200, found)
    ended = canopy("trace", "light", *fleet.options())
    assert ended.code == 0 and ended.out.startswith(f"trace {TRACE} of default/light, ")
    assert [line[:3] for line in ended.out.splitlines()[2:]] == ["a  ", "  b"]
    assert json.loads(canopy("trace", TRACE, "--output", "json", *fleet.options()).out) == found


def test_without_an_argument_the_last_traces_are_listed(canopy: Any, fleet: Any) -> None:
    one = {"trace_id": TRACE, "devices": ["default/light"], "start_ns": 10**18, "duration_ms": 3.0, "spans": 7}
    fleet.answers["GET", "/api/v1/traces?limit=20"] = (200, {"traces": [{**one, "errors": 0, "units": ["cloudhub"]}]})
    ended = canopy("trace", *fleet.options())
    assert TRACE in ended.out and "default/light" in ended.out and "cloudhub" in ended.out


def test_a_device_without_a_trace_is_said_with_what_to_do(canopy: Any, fleet: Any) -> None:
    fleet.answers["GET", "/api/v1/traces?device=default%2Flight&limit=1"] = (200, {"traces": []})
    ended = canopy("trace", "light", *fleet.options())
    assert ended.code != 0 and "canopy device set" in ended.err
