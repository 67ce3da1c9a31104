"""Waiting before the next try."""

import random

import pytest

from canopy.runtime.backoff import Backoff


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Lowest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return a


def test_the_ceiling_doubles_up_to_the_most() -> None:
    backoff = Backoff(1, 30, Highest())
    assert [backoff.next_seconds() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_the_jitter_is_full_down_to_nothing() -> None:
    backoff = Backoff(1, 30, Lowest())
    assert [backoff.next_seconds() for _ in range(3)] == [0, 0, 0]


def test_after_a_reset_it_begins_anew() -> None:
    backoff = Backoff(1, 30, Highest())
    backoff.next_seconds()
    backoff.reset()
    assert backoff.ceiling_seconds == 1


def test_two_with_the_same_seed_wait_the_same() -> None:
    first, second = (Backoff(1, 30, random.Random(7)) for _ in range(2))
    assert [first.next_seconds() for _ in range(5)] == [second.next_seconds() for _ in range(5)]


@pytest.mark.parametrize(("first", "most"), [(0, 1), (-1, 1), (2, 1)])
def test_impossible_bounds_are_refused(first: float, most: float) -> None:
    with pytest.raises(ValueError, match="0 < first <= most"):
        Backoff(first, most, random.Random(7))
