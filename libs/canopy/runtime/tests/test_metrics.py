"""Metrics as text: histograms, what the catalogue says, the process itself, and the time until all is equal."""

import pytest

from canopy.contracts.measures import MEASURES, SECONDS_BUCKETS
from canopy.runtime import process_metrics
from canopy.runtime.equal import Equal
from canopy.runtime.metrics import Metrics
from canopy.testing.clock import FrozenClock
from canopy.testing.exposition import families


def test_a_histogram_counts_each_value_in_the_first_bucket_that_holds_it() -> None:
    metrics = Metrics()
    seconds = metrics.histogram("canopy_devicetwin_commit_seconds")
    for value in (0.0001, 0.001, 0.0011, 7.0, 99.0):
        seconds.observe(value)
    found = families(metrics.text())["canopy_devicetwin_commit_seconds"]
    assert [found.value("_bucket", le=le) for le in ("0.0005", "0.001", "0.0025", "5", "10", "30", "+Inf")] == [
        1, 2, 3, 3, 4, 4, 5,
    ]  # fmt: skip
    assert found.value("_count") == 5 and found.value("_sum") == pytest.approx(106.0022)
    assert len(found.samples) == len(SECONDS_BUCKETS) + 3


def test_help_comes_from_the_catalogue_and_a_name_that_is_not_there_brings_its_own() -> None:
    metrics = Metrics()
    metrics.counter("canopy_mapper_dead_letters_total").add()
    assert (
        families(metrics.text())["canopy_mapper_dead_letters_total"].help
        == "Dead letters that this unit made (letters)."
    )
    for wrong in (lambda: metrics.gauge("canopy_no_such"), lambda: metrics.gauge("canopy_edgehub_asks_total")):
        with pytest.raises(ValueError, match="measures"):
            wrong()


def test_a_gauge_may_be_read_for_each_word_of_its_label() -> None:
    metrics, now = Metrics(), {"devices": 1.5, "nodes": 2.0}
    metrics.gauge("canopy_devicecontroller_informer_age_seconds", read=lambda: now)
    assert families(metrics.text())["canopy_devicecontroller_informer_age_seconds"].value(kind="nodes") == 2.0
    del now["nodes"]
    assert len(families(metrics.text())["canopy_devicecontroller_informer_age_seconds"].samples) == 1


def test_a_process_says_what_every_process_says() -> None:
    metrics = Metrics()
    process_metrics.measure(metrics)
    found = families(metrics.text())
    assert found.keys() == {m.name for m in MEASURES.values() if not m.unit}
    assert found["process_resident_memory_bytes"].value() > 10e6 and found["process_cpu_seconds_total"].value() > 0
    assert 2 < found["process_open_fds"].value() <= found["process_max_fds"].value()
    assert [dict(labels).keys() for _, labels in found["canopy_build_info"].samples] == [{"version"}]


async def test_the_time_to_equal_is_that_of_the_first_equal_after_a_link_and_a_cut_in_between_counts_none() -> None:
    metrics, clock = Metrics(), FrozenClock()
    equal = Equal("metamanager", metrics, clock)
    equal.reached()
    equal.began()
    await clock.advance(1.5)
    equal.reached()
    await clock.advance(9)
    equal.reached()
    equal.began()
    equal.gone()
    equal.reached()
    found = families(metrics.text())
    assert found["canopy_metamanager_last_equal_seconds"].value() == 1.5
    assert found["canopy_metamanager_equal_seconds"].value("_count") == 1


@pytest.mark.parametrize(
    "text",
    [
        "a 1\n",
        "# HELP a A.\n# TYPE a gauge\nb 1\n",
        "# HELP a A.\n# TYPE a counter\na 1\n",
        "# HELP a A.\n# TYPE a gauge\na 1\na 2\n",
        '# HELP a A.\n# TYPE a gauge\na{b="c} 1\n',
        "# HELP a A.\na 1\n",
        "# HELP a A.\n# TYPE a gauge\na one\n",
        "# HELP a A.\n# TYPE a gauge\na 1",
        '# HELP a A.\n# TYPE a histogram\na_bucket{le="+Inf"} 2\na_sum 1\na_count 1\n',
    ],
)
def test_the_reader_of_the_text_is_strict(text: str) -> None:
    with pytest.raises(ValueError):
        families(text)
