"""What becomes of a message whose handler shows a bug: tried again where nobody else will, then set aside."""

from types import SimpleNamespace
from typing import Any

import pytest
from nats.aio.msg import Msg

from canopy.bus.dispatch import TRIES, Dispatch
from canopy.contracts import catalogue as c
from canopy.contracts.wire import LetterBatch, Nothing, SetChanged, encode
from canopy.runtime.letters import DeadLetters
from canopy.runtime.telemetry import Telemetry

CHANGED = c.META_CHANGED.at(channel="devices")
BODY = b'{"as_of":{"epoch":1,"revisions":{}},"hash":"00"}'


class FakeConnection:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes, Any]] = []

    async def answer(self, message: Msg, data: bytes, headers: Any = None) -> None:
        self.sent.append((message.reply, data, headers))


class Desk:
    """A dispatch whose handler raises for the first `bad` calls."""

    def __init__(self, subject: Any = c.META_CHANGED, bad: int = 10**9) -> None:
        self.letters, self.calls, self.bad = DeadLetters("metamanager"), 0, bad
        self.connection: Any = FakeConnection()
        telemetry = Telemetry("metamanager", enabled=False)
        self.dispatch = Dispatch(self.connection, subject, self._handle, telemetry, self.letters, 1)

    async def _handle(self, body: Any, place: Any) -> Any:
        self.calls += 1
        if self.calls <= self.bad:
            raise KeyError("a bug")

    async def take(self, subject: str, data: bytes, reply: str = "") -> None:
        message: Any = SimpleNamespace(subject=subject, data=data, reply=reply, headers=None)
        await self.dispatch.take(message)


async def test_something_heard_is_tried_again_and_then_a_letter_and_what_comes_behind_goes_on() -> None:
    desk = Desk(bad=TRIES)
    await desk.take(CHANGED, BODY)
    await desk.take(CHANGED, BODY)
    (letter,) = desk.letters.waiting(10)
    assert (desk.calls, letter.count, letter.source, letter.error) == (TRIES + 1, TRIES, CHANGED, "KeyError")


async def test_something_heard_that_goes_well_the_second_time_is_no_letter() -> None:
    desk = Desk(bad=1)
    await desk.take(CHANGED, BODY)
    assert desk.calls == 2 and desk.letters.waiting(10) == []


async def test_who_asks_is_told_and_tries_again_himself() -> None:
    desk = Desk(c.TWIN_SUMMARY)
    for _ in range(3):
        await desk.take(c.TWIN_SUMMARY.at(), encode(Nothing()), "inbox")
    assert (
        desk.calls == 3
        and [headers["Nats-Service-Error-Code"] for _, _, headers in desk.connection.sent] == ["500"] * 3
    )
    assert [letter.count for letter in desk.letters.waiting(10)] == [3]


@pytest.mark.parametrize("subject", [c.LETTERS, c.HUB_LETTERS, c.CLOUD_LETTERS])
async def test_a_bug_in_what_carries_letters_makes_none(subject: Any) -> None:
    desk = Desk(subject)
    await desk.take(subject.wild().replace("*", "edge-1"), encode(LetterBatch()), "inbox")
    assert desk.calls == 1 and desk.letters.waiting(10) == []


def test_the_message_above_is_one() -> None:
    import msgspec

    assert msgspec.json.decode(BODY, type=SetChanged).hash == "00"
