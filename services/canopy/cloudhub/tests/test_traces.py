"""What CloudHub keeps of spans: bounded in all, in each trace and in each span."""

from typing import Any

from canopy.cloudhub.traces import MAX_WORDS, Traces, acceptable, ordered
from canopy.contracts.wire import SpanRecord


def span(trace: str, number: int, **more: Any) -> SpanRecord:
    given = {"unit": "u", "name": "n", "kind": "server", "start": number, "end": number + 1}
    return SpanRecord(trace=trace * 32, id=f"{number:016x}", **{**given, **more})


def test_the_trace_that_was_added_to_longest_ago_gives_way() -> None:
    traces = Traces(most_spans=4, most_of_trace=10)
    traces.add([span("a", 1), span("a", 2), span("b", 3), span("b", 4), span("a", 5)])
    assert traces.get("b" * 32) is None and traces.spans == 3
    assert [t.id[0] for t in traces.newest()] == ["a"]


def test_of_one_trace_only_the_first_spans_are_kept_and_the_rest_are_counted() -> None:
    traces = Traces(most_spans=100, most_of_trace=2)
    traces.add(span("a", n) for n in range(5))
    kept = traces.get("a" * 32)
    assert kept is not None and [s.start for s in ordered(kept)] == [0, 1] and traces.dropped == 3


def test_a_span_that_comes_twice_is_kept_once() -> None:
    traces = Traces(10, 10)
    traces.add([span("a", 1), span("a", 1)])
    assert traces.spans == 1


def test_a_trace_says_its_devices_its_length_and_its_errors() -> None:
    traces = Traces(10, 10)
    traces.add([span("a", 5, attributes={"device": "d/x"}), span("a", 1, error="no"), span("a", 9)])
    trace = traces.get("a" * 32)
    assert trace is not None and (trace.devices, trace.start, trace.end, trace.errors) == (("d/x",), 1, 10, 1)


def test_a_span_is_of_the_node_that_sent_it_and_its_words_are_cut() -> None:
    many = {str(i): "v" * 1000 for i in range(50)}
    kept = acceptable(span("a", 1, node="another", name="n" * 1000, error="e" * 1000, attributes=many), "edge-1")
    assert kept is not None and kept.node == "edge-1" and len(kept.name) == len(kept.error) == MAX_WORDS
    assert len(kept.attributes) == 8 and max(map(len, kept.attributes.values())) == MAX_WORDS


def test_what_is_no_span_is_not_kept() -> None:
    assert acceptable(span("g", 1), "n") is None
    assert acceptable(span("a", 1, parent="x"), "n") is None
    assert acceptable(span("a", 5, end=1), "n") is None
    assert acceptable(span("a", 1, end=2**64 - 1), "n") is None
