"""What is recorded, what is handed on, and what costs nothing."""

import asyncio
from collections.abc import Mapping

import pytest

from canopy.runtime.telemetry import FinishedSpan, Telemetry, current_trace_id

PARENT = f"00-{'a' * 32}-{'b' * 16}-01"
NOT_SAMPLED = f"00-{'a' * 32}-{'b' * 16}-00"


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def telemetry(time: Time) -> Telemetry:
    return Telemetry("devicetwin", monotonic=time)


@pytest.fixture
def quiet(time: Time) -> Telemetry:
    """Begins no trace by itself."""
    return Telemetry("devicetwin", traces_per_second=0, monotonic=time)


def drawn(spans: list[FinishedSpan], parent: str | None = None, depth: int = 0) -> list[str]:
    here = [span for span in sorted(spans, key=lambda s: s.start_ns) if span.parent_id == parent]
    return [line for span in here for line in ["  " * depth + span.name, *drawn(spans, span.span_id, depth + 1)]]


def test_spans_nest(telemetry: Telemetry) -> None:
    with telemetry.span("report", kind="consumer", attributes={"device": "lamp"}) as span:
        span.set("bytes", 12)
        with telemetry.span("store"):
            pass
        with telemetry.span("say", kind="producer"):
            pass
    spans = telemetry.finished_spans()
    assert drawn(spans) == ["report", "  store", "  say"]
    assert len({span.trace_id for span in spans}) == 1
    root = spans[-1]
    assert (root.service, root.kind, root.attributes) == ("devicetwin", "consumer", {"device": "lamp", "bytes": 12})
    assert root.start_ns <= root.end_ns
    assert root.error is None


def test_a_trace_goes_on_from_headers_to_headers(quiet: Telemetry) -> None:
    headers: dict[str, str] = {}
    with quiet.span("handle", quiet.extract({"traceparent": PARENT})):
        quiet.inject(headers)
    (span,) = quiet.finished_spans()
    assert (span.trace_id, span.parent_id) == ("a" * 32, "b" * 16)
    assert headers == {"traceparent": f"00-{'a' * 32}-{span.span_id}-01"}


def test_a_trace_goes_on_from_a_stored_row(quiet: Telemetry) -> None:
    with quiet.span("handle", quiet.remote(PARENT)):
        stored = quiet.current_traceparent()
    assert stored is not None
    with quiet.span("send later", quiet.remote(stored)):
        pass
    first, second = quiet.finished_spans()
    assert second.parent_id == first.span_id


@pytest.mark.parametrize(
    "text",
    ["", "x", "00-1-2-01", PARENT.upper(), PARENT + "-x", f"ff{PARENT[2:]}", PARENT.replace("a", "0"), PARENT + "\n"],
)
def test_a_malformed_parent_begins_anew(quiet: Telemetry, text: str) -> None:
    with quiet.span("handle", quiet.extract({"traceparent": text})) as span:
        assert not span.recording
    assert quiet.finished_spans() == []


def test_a_later_version_of_the_text_is_read(quiet: Telemetry) -> None:
    with quiet.span("handle", quiet.remote(f"01{PARENT[2:]}-more")) as span:
        assert span.recording


@pytest.mark.parametrize("headers", [None, {}, {"other": "x"}])
def test_without_a_traceparent_there_is_no_parent(telemetry: Telemetry, headers: Mapping[str, str] | None) -> None:
    with telemetry.span("outer"), telemetry.span("handle", telemetry.extract(headers)):
        pass
    assert [span.parent_id for span in telemetry.finished_spans()] == [None, None]


def test_a_parent_that_is_not_sampled_is_handed_on_and_not_recorded(telemetry: Telemetry) -> None:
    headers: dict[str, str] = {}
    with telemetry.span("handle", telemetry.remote(NOT_SAMPLED)), telemetry.span("store") as span:
        assert not span.recording
        telemetry.inject(headers)
    assert (headers, telemetry.finished_spans()) == ({"traceparent": NOT_SAMPLED}, [])


def test_only_so_many_new_traces_a_second_are_recorded(telemetry: Telemetry, time: Time) -> None:
    for _ in range(20):
        with telemetry.span("report", telemetry.extract({})):
            pass
    assert len(telemetry.finished_spans()) == 5
    time.now += 0.2
    for _ in range(20):
        with telemetry.span("report", telemetry.extract({})):
            pass
    assert len(telemetry.finished_spans()) == 6


def test_nothing_inside_a_trace_that_was_left_out_begins_one(telemetry: Telemetry, time: Time) -> None:
    for _ in range(5):
        with telemetry.span("report"):
            pass
    with telemetry.span("left out"):
        time.now += 10
        with telemetry.span("inside") as inside:
            assert not inside.recording
        assert telemetry.current_traceparent() is None
    with telemetry.span("next") as following:
        assert following.recording


def test_what_must_always_be_seen_is_recorded(quiet: Telemetry) -> None:
    with quiet.span("report"), quiet.span("command", always=True), quiet.span("store"):
        pass
    assert drawn(quiet.finished_spans()) == ["command", "  store"]


def test_an_error_is_marked_and_goes_on(telemetry: Telemetry) -> None:
    with pytest.raises(LookupError), telemetry.span("report"):
        raise LookupError("no such lamp" * 100)
    (span,) = telemetry.finished_spans()
    assert span.error is not None and span.error.startswith("no such lamp") and len(span.error) == 500
    assert span.attributes["error.type"] == "LookupError"


def test_an_error_that_is_no_exception_can_be_marked(telemetry: Telemetry) -> None:
    with telemetry.span("report") as span:
        span.fail("refused")
    assert telemetry.finished_spans()[0].error == "refused"


def test_a_trace_that_was_left_out_is_recorded_when_it_fails(telemetry: Telemetry) -> None:
    for _ in range(5):
        with telemetry.span("report"):
            pass
    for _ in range(20):
        with (
            pytest.raises(LookupError),
            telemetry.span("report", attributes={"device": "lamp"}),
            telemetry.span("store"),
        ):
            raise LookupError("no such lamp")
    failed = [span for span in telemetry.finished_spans() if span.error]
    assert [span.name for span in failed] == ["report"] * 5  # as bounded as the others
    assert failed[0].attributes["device"] == "lamp"


async def test_a_cancellation_is_not_an_error(telemetry: Telemetry) -> None:
    async def work() -> None:
        with telemetry.span("report"):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    (span,) = telemetry.finished_spans()
    assert (span.error, span.attributes) == (None, {"cancelled": True})


async def test_tasks_have_their_own_current_spans(telemetry: Telemetry) -> None:
    async def work(name: str) -> None:
        with telemetry.span(name):
            await asyncio.sleep(0)
            with telemetry.span(f"{name} inside"):
                await asyncio.sleep(0)

    await asyncio.gather(work("a"), work("b"))
    assert sorted(drawn(telemetry.finished_spans())) == ["  a inside", "  b inside", "a", "b"]


def test_two_copies_share_nothing_but_the_current_context(telemetry: Telemetry) -> None:
    other = Telemetry("edgehub", traces_per_second=0)
    with telemetry.span("say"), other.span("hear"):
        pass
    (said,), (heard,) = telemetry.finished_spans(), other.finished_spans()
    assert (said.service, heard.service, heard.parent_id) == ("devicetwin", "edgehub", said.span_id)


def test_the_buffer_is_bounded_and_counts_what_fell_out() -> None:
    telemetry = Telemetry("x", traces_per_second=1000, kept_spans=3)
    for number in range(5):
        with telemetry.span(str(number)):
            pass
    assert [span.name for span in telemetry.finished_spans()] == ["2", "3", "4"]
    assert telemetry.dropped_spans == 2
    assert [span.name for span in telemetry.take_finished_spans(2)] == ["2", "3"]
    assert [span.name for span in telemetry.take_finished_spans()] == ["4"]
    assert telemetry.finished_spans() == []


def test_the_exporter_is_given_each_span_and_its_mistakes_stay_its_own() -> None:
    seen: list[str] = []

    def exporter(span: FinishedSpan) -> None:
        seen.append(span.name)
        raise LookupError("the exporter's own mistake")

    telemetry = Telemetry("x", exporter)
    with telemetry.span("report"):
        pass
    assert (seen, len(telemetry.finished_spans())) == (["report"], 1)


def test_when_off_nothing_is_recorded_or_handed_on() -> None:
    telemetry, headers = Telemetry("x", enabled=False), dict[str, str]()
    with telemetry.span("report", telemetry.extract({"traceparent": PARENT}), always=True) as span:
        span.set("a", 1)
        span.fail("b")
        telemetry.inject(headers)
        assert (telemetry.current_traceparent(), current_trace_id(), span.recording) == (None, None, False)
    assert (headers, telemetry.finished_spans()) == ({}, [])


def test_log_lines_can_ask_for_the_current_trace(telemetry: Telemetry) -> None:
    assert current_trace_id() is None
    with telemetry.span("report", telemetry.remote(PARENT)):
        assert current_trace_id() == "a" * 32
    assert current_trace_id() is None
