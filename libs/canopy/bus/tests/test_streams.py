"""A follower of a stream, without a server: what makes it begin again."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from canopy.bus import streams
from canopy.bus.streams import Follow, Value


class Stream:
    """It says that it ends at sequence 5; while it is asked, `meanwhile` happens."""

    meanwhile: Callable[[], None]

    async def created(self) -> tuple[str, int]:
        self.meanwhile()
        return "once", 5


@pytest.mark.parametrize(
    ("case", "heard", "comes", "again"),
    [
        ("nothing is said", 5, 5, False),
        ("what comes while it is asked is later than its answer", 5, 6, False),
        ("it has lost what was heard", 6, 6, True),
    ],
)
async def test_a_follower_begins_again_when_its_stream_has_lost_its_end_and_only_then(
    monkeypatch: pytest.MonkeyPatch, case: str, heard: int, comes: int, again: bool
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.0)
    stream: Any = Stream()
    follow = Follow(stream, ">", on_reset=lambda: None, on_value=lambda value: None)
    stream.meanwhile = lambda: follow._take(Value("a", comes, b""))
    follow._take(Value("a", heard, b""))
    reader: Any = SimpleNamespace(broken=asyncio.Event(), last_heard=asyncio.get_running_loop().time())
    assert await follow._broken(reader, "once") is again, case
