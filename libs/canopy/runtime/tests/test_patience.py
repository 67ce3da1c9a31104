"""Trying until it works."""

import logging

import pytest

from canopy.runtime.patience import patiently


class NotYet(Exception):
    """What is waited out."""


async def test_it_is_tried_until_it_works_and_said_when_it_takes_longer(caplog: pytest.LogCaptureFixture) -> None:
    failures = [NotYet("not there")] * 4

    async def attempt() -> str:
        if failures:
            raise failures.pop()
        return "there"

    with caplog.at_level(logging.WARNING):
        assert await patiently("it", attempt, NotYet, most_seconds=0.2) == "there"
    assert caplog.messages == ["waiting for it: not there"]


async def test_what_is_not_expected_comes_out() -> None:
    async def attempt() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        await patiently("it", attempt, NotYet)
