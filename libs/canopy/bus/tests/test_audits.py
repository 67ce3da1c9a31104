"""A unit's audit on its way: asked until the cloud has it, refused records given up and counted."""

from typing import Any

import pytest

from canopy.bus.audits import AuditSender
from canopy.bus.outcome import NoResponders, Reject, Retry
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditBatch
from canopy.contracts.wire import Verdict
from canopy.runtime.audit import AuditLog
from canopy.testing.clock import FrozenClock


class FakeBus:
    """Answers what it is told to, in order."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[tuple[Any, AuditBatch]]()

    async def ask(self, subject: Any, message: Any, *, timeout: float) -> Any:
        self.asked.append((subject, message))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def sender(bus: Any, audit: AuditLog) -> AuditSender:
    return AuditSender(bus, audit, FrozenClock())


@pytest.mark.parametrize("answer", [NoResponders("down"), Retry("later"), Verdict(verdict="busy")])
async def test_a_record_waits_until_the_cloud_takes_it_and_drops_are_told_once(answer: Any) -> None:
    audit, bus = AuditLog("edgeidentity", FrozenClock()), FakeBus(answer, Verdict(), Verdict())
    audit.record("provision")
    audit.dropped = 3
    sending = sender(bus, audit)
    assert not await sending.send() and audit.unsent == 1
    assert await sending.send() and audit.unsent == 0
    audit.record("revocation")
    assert await sending.send()
    assert [(s, len(b.records), b.dropped) for s, b in bus.asked] == [
        (c.HUB_AUDIT, 1, 3), (c.HUB_AUDIT, 1, 3), (c.HUB_AUDIT, 1, 0)
    ]  # fmt: skip


async def test_what_the_cloud_refuses_is_given_up_and_counted_else_it_would_hold_up_the_others() -> None:
    audit = AuditLog("edgeidentity", FrozenClock())
    audit.record("provision")
    assert await sender(FakeBus(Reject(413, "too big")), audit).send()
    assert (audit.unsent, audit.dropped) == (0, 1)
