"""Calls of JetStream's API that meet a server which is just reading its configuration."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.aio.msg import Msg

from canopy.bus.bus import Bus
from canopy.bus.jsapi import call
from canopy.bus.outcome import NoResponders


@dataclass
class Reading:
    """A bus whose server serves nothing for the first `unserved` asks."""

    unserved: int
    connection: Any = field(default_factory=lambda: SimpleNamespace(connected=True))
    asked: int = 0

    async def request(self, subject: str, body: bytes, headers: dict[str, str], timeout: float) -> Msg:
        self.asked += 1
        if self.asked <= self.unserved:
            raise NoResponders(subject)
        return cast("Msg", SimpleNamespace(data=b'{"ok": true}'))


async def test_a_call_that_nobody_serves_for_a_moment_is_asked_again() -> None:
    reading = Reading(unserved=2)
    assert await call(cast("Bus", reading), "STREAM.INFO.TWINS") == {"ok": True}
    assert reading.asked == 3


async def test_a_call_without_a_connection_fails_at_once() -> None:
    reading = Reading(unserved=9, connection=SimpleNamespace(connected=False))
    with pytest.raises(NoResponders):
        await call(cast("Bus", reading), "STREAM.INFO.TWINS")
    assert reading.asked == 1
