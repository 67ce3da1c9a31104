"""Turns and lines."""

from hypothesis import given
from hypothesis import strategies as st

from canopy.mapper.schedule import Schedule

A, B, C = ("d", "a"), ("d", "b"), ("d", "c")


def test_devices_of_different_lines_have_their_turns_side_by_side() -> None:
    s = Schedule()
    s.put(A, "1", 1.0)
    s.put(B, "2", 1.0)
    assert s.take(0.9) == []
    assert s.take(1.0) == [A, B]


def test_devices_of_one_line_have_their_turns_one_after_another() -> None:
    s = Schedule()
    s.put(A, "1", 1.0)
    s.put(B, "1", 2.0)
    assert s.take(3.0) == [A]
    assert s.take(3.0) == []
    s.finished(A)
    assert s.take(3.0) == [B]


def test_one_who_comes_first_is_before_those_who_wait() -> None:
    s = Schedule()
    for key in (A, B, C):
        s.put(key, "1", 1.0)
    assert s.take(1.0) == [A]
    s.put(C, "1", 1.0, first=True)
    s.finished(A)
    assert s.take(1.0) == [C]


def test_the_last_word_about_a_time_counts() -> None:
    s = Schedule()
    s.put(A, "1", 5.0)
    s.put(A, "1", 2.0)
    s.put(A, "1", 9.0)
    assert s.next_at() == 9.0
    assert s.take(8.0) == []
    s.put(A, "1", float("inf"))
    assert s.next_at() == float("inf")


def test_a_device_that_is_dropped_has_no_turn() -> None:
    s = Schedule()
    s.put(A, "1", 1.0)
    s.put(B, "1", 1.0)
    assert s.take(1.0) == [A]
    s.drop(B)
    s.finished(A)
    assert s.take(9.0) == []


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20), st.booleans()), max_size=60))
def test_no_line_ever_has_two_turns_and_nobody_is_forgotten(words: list[tuple[int, int, bool]]) -> None:
    s = Schedule()
    running: dict[str, tuple[str, str]] = {}
    owed: set[tuple[str, str]] = set()
    for number, when, first in words:
        key, line = ("d", str(number)), str(number % 2)
        if running.get(line) != key:
            s.put(key, line, when, first=first)
            owed.add(key)
        for taken in s.take(10):
            assert str(int(taken[1]) % 2) not in running
            running[str(int(taken[1]) % 2)] = taken
            owed.discard(taken)
        if first and running:
            _, done = running.popitem()
            s.finished(done)
    while owed or running:
        for _, done in list(running.items()):
            s.finished(done)
        running.clear()
        taken_now = s.take(100)
        assert taken_now or not owed
        for taken in taken_now:
            running[str(int(taken[1]) % 2)] = taken
            owed.discard(taken)
