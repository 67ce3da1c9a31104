"""Dead letters of a unit: one for each body that fails, bounded, kept over restarts, without secrets."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from canopy.runtime.letters import AGAIN_SECONDS, AT_ONCE, BODY_BYTES, KEPT_LETTERS, DeadLetters
from canopy.runtime.secrets import without_secrets
from canopy.testing.clock import FrozenClock


def bug(text: str = "no") -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as e:
        return e


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


def test_the_same_body_failing_again_is_one_letter_with_a_count(clock: FrozenClock) -> None:
    letters = DeadLetters("devicetwin", clock)
    for _ in range(1000):
        letters.failed("a.subject", bug(), b"body")
    (letter,) = letters.waiting(10)
    assert (letter.count, letter.error, letter.text, letter.unit) == (1000, "ValueError", "no", "devicetwin")
    assert "in bug" in letter.traceback and base64.b64decode(letter.body) == b"body" and letters.total == 1


def test_who_tries_again_makes_a_letter_of_the_last_try_only(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    assert [letters.failed("s", bug(), b"b", after=3) for _ in range(2)] == [1, 2] and not letters.waiting(10)
    assert letters.failed("s", bug(), b"b", after=3) == 3 and letters.waiting(10)[0].count == 3


def test_asks_that_bear_another_stamp_each_time_are_one_letter_by_the_place_of_the_bug(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    for n in range(50):
        letters.failed("s", bug(), b"%d" % n, by_place=True)
    assert [letter.count for letter in letters.waiting(100)] == [50]


async def test_what_the_cloud_has_is_sent_again_only_when_it_failed_again_and_not_at_once(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    letters.failed("s", bug(), b"b")
    letters.sent(letters.waiting(10))
    assert not letters.waiting(10) and not letters.unsent
    letters.failed("s", bug(), b"b")
    assert not letters.waiting(10) and letters.unsent == 1
    await clock.advance(AGAIN_SECONDS)
    assert letters.waiting(10)[0].count == 2


async def test_one_that_fails_again_while_it_is_sent_is_sent_again(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    letters.failed("s", bug(), b"b")
    sending = letters.waiting(10)
    letters.failed("s", bug(), b"b")
    letters.sent(sending)
    await clock.advance(AGAIN_SECONDS)
    assert [letter.count for letter in letters.waiting(10)] == [2]


async def test_thousands_of_different_bodies_are_a_few_letters_and_the_rest_is_counted(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    for n in range(5000):
        letters.failed("s", bug(), b"%d" % n)
    assert len(letters.waiting(1000)) == AT_ONCE and letters.dropped == 5000 - AT_ONCE
    for n in range(2 * KEPT_LETTERS):
        await clock.advance(1.0)
        letters.failed("s", bug(), b"later %d" % n)
    assert letters.unsent == KEPT_LETTERS


def test_letters_are_kept_over_a_restart_until_the_cloud_has_them(tmp_path: Path, clock: FrozenClock) -> None:
    file = tmp_path / "unit" / "letters.json"
    letters = DeadLetters("u", clock, file)
    letters.failed("s", bug(), b"b")
    again = DeadLetters("u", clock, file)
    assert again.waiting(10) == letters.waiting(10) and file.stat().st_mode & 0o777 == 0o600
    again.sent(again.waiting(10))
    assert DeadLetters("u", clock, file).waiting(10) == []


@pytest.mark.parametrize("spoil", [lambda f: f.write_bytes(b"{"), lambda f: (f.unlink(), f.mkdir())])
def test_a_file_that_cannot_be_read_or_written_costs_nothing_but_the_letters_in_it(
    tmp_path: Path, clock: FrozenClock, spoil: Callable[[Path], None]
) -> None:
    file = tmp_path / "letters.json"
    DeadLetters("u", clock, file).failed("s", bug(), b"b")
    spoil(file)
    letters = DeadLetters("u", clock, file)
    letters.failed("s", bug(), b"c")
    assert [base64.b64decode(letter.body) for letter in letters.waiting(10)] == [b"c"]


def test_a_letter_is_bounded(clock: FrozenClock) -> None:
    letters = DeadLetters("u", clock)
    letters.failed("s" * 10_000, bug("e" * 100_000), b"b" * 1_000_000)
    (letter,) = letters.waiting(10)
    assert letter.body_bytes == 1_000_000 and len(base64.b64decode(letter.body)) == BODY_BYTES
    assert len(letter.source) + len(letter.text) + len(letter.traceback) < 7_000


@pytest.mark.parametrize(
    "text",
    [
        b'{"password":"hush"}',
        b'{"a":[{"API-Token":{"actual":{"value":"hush"}}}]}',
        b'{"properties":[{"name":"wifiPassword","desired":{"value":"hush"}}]}',
        b'not json, but "client_secret": "hush", and more',
        b'cut off: {"authorization":"Bearer hush',
    ],
)
def test_what_looks_like_a_secret_is_left_out(text: bytes) -> None:
    assert b"hush" not in without_secrets(text)


def test_what_is_no_secret_stays_as_it_is() -> None:
    text = b'{"level": {"actual": {"value": "7"}}, "name": "light"}'
    assert without_secrets(text) == text
