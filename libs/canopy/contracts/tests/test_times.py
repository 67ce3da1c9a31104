"""Times in and out of Kubernetes' forms."""

import pytest

from canopy.contracts.times import micro_time, millis, rfc3339


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, ""), (-5, ""), (10**18, ""), (1000, "1970-01-01T00:00:01Z"), (1_700_000_000_123, "2023-11-14T22:13:20Z")],
)
def test_a_time_is_written_as_kubernetes_writes_it_and_what_no_calendar_holds_is_left_out(ms: int, text: str) -> None:
    assert rfc3339(ms) == text


def test_a_micro_time_reads_back_to_the_millisecond() -> None:
    assert millis(micro_time(1_700_000_000_123)) == 1_700_000_000_123


def test_a_time_that_is_none_counts_as_never() -> None:
    assert millis(None) == millis("yesterday") == 0
