"""A unit's dead letters on their way: asked until the cloud has them, refused ones given up, drops told once."""

from typing import Any

import pytest

from canopy.bus.letters import LetterSender
from canopy.bus.outcome import NoResponders, Reject, Retry
from canopy.contracts import catalogue as c
from canopy.contracts.wire import LetterBatch, Verdict
from canopy.runtime.letters import DeadLetters
from canopy.testing.clock import FrozenClock


class FakeBus:
    """Answers what it is told to, in order."""

    def __init__(self, unit: str, *answers: Any) -> None:
        self.unit, self.answers = unit, list(answers)
        self.asked: list[tuple[Any, LetterBatch, dict[str, str]]] = []

    async def ask(self, subject: Any, message: Any, *, timeout: float, **tokens: str) -> Any:
        self.asked.append((subject, message, tokens))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sender(bus: Any, letters: DeadLetters) -> LetterSender:
    return LetterSender(bus, letters, FrozenClock())


@pytest.mark.parametrize(
    ("unit", "subject", "tokens"),
    [
        ("mapper", c.HUB_LETTERS, {}),
        ("edgehub", c.HUB_LETTERS, {}),
        ("cloudhub", c.CLOUD_LETTERS, {"unit": "cloudhub"}),
    ],
)
async def test_a_letter_leaves_the_unit_when_the_cloud_has_it(unit: str, subject: Any, tokens: dict[str, str]) -> None:
    letters, bus = DeadLetters(unit, FrozenClock()), FakeBus(unit, Verdict())
    letters.failed("s", KeyError("x"), b"b")
    assert await sender(bus, letters).send() and letters.unsent == 0
    ((asked, batch, given),) = bus.asked
    assert (asked, given, len(batch.letters)) == (subject, tokens, 1)


@pytest.mark.parametrize("answer", [NoResponders("down"), Retry("later"), Verdict(verdict="busy")])
async def test_what_the_cloud_does_not_take_waits(answer: Any) -> None:
    letters, bus = DeadLetters("mapper", FrozenClock()), FakeBus("mapper", answer, Verdict())
    letters.failed("s", KeyError("x"), b"b")
    sending = sender(bus, letters)
    assert not await sending.send() and letters.unsent == 1
    assert await sending.send() and letters.unsent == 0


async def test_what_the_cloud_refuses_is_given_up_else_it_would_hold_up_the_others() -> None:
    letters, bus = DeadLetters("mapper", FrozenClock()), FakeBus("mapper", Reject(413, "too big"))
    letters.failed("s", KeyError("x"), b"b")
    assert await sender(bus, letters).send() and letters.unsent == 0


async def test_what_a_bound_left_out_is_told_once() -> None:
    letters, bus = DeadLetters("mapper", FrozenClock()), FakeBus("mapper", *[Verdict()] * 5)
    for n in range(30):
        letters.failed("s", KeyError("x"), b"%d" % n)
    await sender(bus, letters).send()
    assert [(len(batch.letters), batch.dropped) for _, batch, _ in bus.asked] == [(10, 10), (10, 0)]
