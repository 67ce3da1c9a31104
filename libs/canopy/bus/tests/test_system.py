"""What is asked of a server, without one: how long it is waited for."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from canopy.bus import system as module
from canopy.bus.outcome import AskTimeout, NoResponders
from canopy.bus.system import System
from canopy.testing.wait import until


class Server:
    """The connection to a server, which answers when the test says so."""

    url, connected = "nats://leaf", True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.hooks: list[Callable[[], None]] = []
        self._take: Any = None

    async def subscribe(self, subject: str, take: Any) -> Any:
        self._take = take
        return SimpleNamespace(unsubscribe=lambda: asyncio.sleep(0))

    async def publish(self, subject: str, data: bytes, reply: str) -> None:
        self.asked.append((subject, reply))

    def on_lost(self, hook: Callable[[], None]) -> None:
        self.hooks.append(hook)

    def forget_lost(self, hook: Callable[[], None]) -> None:
        self.hooks.remove(hook)

    async def answer(self, data: bytes = b"{}") -> None:
        await self._take(SimpleNamespace(subject=self.asked[-1][1], data=data, headers=None))


async def test_what_a_server_says_against_a_reload_is_told() -> None:
    server = Server()
    async with System(server) as system:  # type: ignore[arg-type]
        reloading = asyncio.create_task(system.reload("S"))
        await until(lambda: server.asked)
        await server.answer(b'{"error": {"description": "line 3"}}')
        assert await reloading == "line 3"
    assert not server.hooks


async def test_a_reload_is_waited_for_longer_than_other_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may take 5 s for it and more, and would begin again for who asks again."""
    monkeypatch.setattr(module, "RELOAD_SECONDS", 0.02)
    async with System(Server()) as system:  # type: ignore[arg-type]
        with pytest.raises(AskTimeout, match=r"RELOAD: no answer within 0\.02 s"):
            await system.reload("S")


async def test_what_a_lost_connection_was_asked_is_waited_for_no_more() -> None:
    server = Server()
    async with System(server) as system:  # type: ignore[arg-type]
        reloading = asyncio.create_task(system.reload("S"))
        await until(lambda: server.asked)
        for hook in server.hooks:
            hook()
        with pytest.raises(NoResponders, match="was lost"):
            await asyncio.wait_for(reloading, 1)
