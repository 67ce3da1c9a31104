"""Spans in several traces at once, and traces that are joined only, not begun."""

from canopy.runtime.telemetry import Telemetry, current_traceparent, joined, newest


def parent(digit: str, span: str = "") -> str:
    return f"00-{digit * 32}-{(span or digit) * 16}-01"


def test_of_each_trace_the_newest_span_stays_and_of_traces_the_newest_four() -> None:
    assert joined(parent("1"), "", parent("2"), parent("1", "9")) == f"{parent('2')},{parent('1', '9')}"
    assert joined(*(parent(d) for d in "123456")) == ",".join(parent(d) for d in "3456")
    assert newest(joined(parent("1"), parent("2"))) == parent("2") and newest("") == ""


def test_what_is_too_long_to_be_ours_is_no_trace() -> None:
    assert joined("x" * 10_000) == newest("x" * 10_000) == ""


def test_a_piece_of_work_is_recorded_in_each_trace_that_it_belongs_to() -> None:
    telemetry = Telemetry("x", traces_per_second=0)
    with telemetry.span_in_each("work", joined(parent("1"), parent("2")), "client", {"device": "d/x"}) as span:
        assert span.recording and newest(span.traceparent) == current_traceparent()
    assert {(s.trace_id[0], s.parent_id[0] if s.parent_id else "") for s in telemetry.finished_spans()} == {
        ("1", "1"),
        ("2", "2"),
    }


def test_without_a_trace_nothing_is_begun_inside_or_outside() -> None:
    telemetry = Telemetry("x", traces_per_second=1000)
    with telemetry.span_in_each("work", "") as span, telemetry.span("inside"):
        assert not span.recording and span.traceparent == ""
    with telemetry.span("a timer's", begins=False):
        assert current_traceparent() == ""
    assert telemetry.finished_spans() == []
