import random

import pytest

from canopy.contracts.wire import AsOf
from canopy.metamanager.core import Pace, foreign

CHECK = 60.0


def pace() -> Pace:
    made = Pace(CHECK, random.Random(1))
    made.due = 1000.0
    return made


def test_the_first_page_is_asked_at_once() -> None:
    assert Pace(CHECK, random.Random(1)).due == 0.0


@pytest.mark.parametrize(
    ("taken", "passing", "goes_on", "at_least", "at_most"),
    [
        (True, False, False, 45, 60),  # equal: the slow timer
        (True, True, True, 0, 0),  # the next page
        (True, True, False, 0, 0.2),  # all is seen, the hash is another one: a new pass, but not in a loop
        (False, True, True, 0, 0.2),  # older: the same ask again (RULES 2)
        (False, True, False, 0, 0.2),
    ],
)
def test_when_the_next_page_is_due(taken: bool, passing: bool, goes_on: bool, at_least: float, at_most: float) -> None:
    made = pace()
    made.on_page(taken, passing, goes_on, 100.0)
    assert at_least <= made.due - 100 <= at_most


def test_failures_wait_ever_longer_up_to_three_seconds() -> None:
    made, waits = pace(), []
    for _ in range(200):
        made.on_failure(100.0)
        waits.append(made.due - 100)
    assert max(waits[:2]) <= 0.4 and 2.5 < max(waits) <= 3


def test_a_retry_is_not_before_its_time_but_bounded() -> None:
    made = pace()
    made.on_failure(100.0, 3.0)
    assert made.due >= 103
    made.on_failure(100.0, 9999.0)
    assert made.due <= 110


def test_a_set_that_never_gets_equal_is_asked_with_backoff() -> None:
    made = pace()
    for _ in range(20):
        made.on_page(True, True, False, 100.0)
    assert made._backoff.ceiling_seconds == 3


def test_a_new_session_leads_to_a_page_at_once_and_a_beat_does_not() -> None:
    made = pace()
    made.on_link(False, 0, 100.0)
    assert made.due == 1000
    made.on_link(True, 7, 100.0)
    assert made.due == 100
    made.due = 160
    made.on_link(True, 7, 110.0)
    assert made.due == 160
    made.on_link(True, 8, 120.0)
    assert made.due == 120


def test_a_push_that_leads_elsewhere_brings_a_page_at_once() -> None:
    made = pace()
    made.on_push(True, 100.0)
    assert made.due == 1000
    made.on_push(False, 100.0)
    assert made.due == 100
    made.on_push(False, 101.0)
    assert made.due == 100


def test_a_push_that_is_refused_for_being_older_brings_a_page_soon_and_ever_less_soon() -> None:
    """The leader may have listed before the replica whose page was taken: its pushes bear news all the same."""
    made = pace()
    waits = []
    for now in (100.0, 200.0, 300.0, 400.0, 500.0, 600.0):
        made.due = 1000.0
        made.on_refused(now)
        waits.append(made.due - now)
    assert 0 < waits[0] <= 0.2
    assert 0.2 < waits[-1] <= 3.0
    made.due = 50.0
    made.on_refused(100.0)
    assert made.due == 50, "a page that is due sooner stays so"


E1, E2 = AsOf(epoch=1, revisions={}), AsOf(epoch=2, revisions={})


@pytest.mark.parametrize(
    ("cluster", "as_of", "mine", "my_as_of", "refused"),
    [
        ("a", E1, "a", E1, False),
        ("b", E1, "a", E1, True),
        ("b", E2, "a", E1, False),
        ("b", E1, "a", E2, True),
        ("b", E1, "", None, False),
        ("", E1, "a", E1, False),
        ("b", None, "a", E1, True),
    ],
)
def test_another_cluster_is_refused_until_the_epoch_rises(
    cluster: str, as_of: AsOf | None, mine: str, my_as_of: AsOf | None, refused: bool
) -> None:
    assert foreign(cluster, as_of, mine, my_as_of) is refused
