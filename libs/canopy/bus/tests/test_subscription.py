"""One subscription on two connections: what is taken, how often, in which order."""

import asyncio
from types import SimpleNamespace
from typing import Any

from canopy.bus.subscription import Overlap

Taken = list[str]


class On:
    """What nats-py has for a subscription: a queue, and a task that gives it to the callback of the moment."""

    def __init__(self, cb: Any) -> None:
        self._cb, self._pending_queue = cb, asyncio.Queue[Any]()
        self.task = asyncio.create_task(self._run())

    def comes(self, *bodies: str) -> None:
        for body in bodies:
            message = SimpleNamespace(subject="s", reply="", data=body.encode(), headers=None)
            self._pending_queue.put_nowait(message)

    async def _run(self) -> None:
        while True:
            message = await self._pending_queue.get()
            await self._cb(message)
            self._pending_queue.task_done()


async def both(old: tuple[str, ...], new: tuple[str, ...], after: tuple[str, ...] = (), shared: bool = False) -> Taken:
    """What the callback gets when `old` and `new` come in the overlap, the new ones first, and `after` later."""
    taken: Taken = []

    async def cb(message: Any) -> None:
        await asyncio.sleep(0)
        taken.append(message.data.decode())

    first = On(cb)
    overlap = Overlap(cb, first, shared)
    overlap.on = second = On(overlap.take_new)
    second.comes(*new)
    await asyncio.sleep(0)
    first.comes(*old)
    await overlap.hand_over()
    await second._pending_queue.join()
    second.comes(*after)
    await second._pending_queue.join()
    for on in (first, second):
        on.task.cancel()
    return taken


async def test_what_both_connections_give_is_taken_once_and_in_the_old_ones_order() -> None:
    assert await both(("1", "2", "3"), ("2", "3")) == ["1", "2", "3"]


async def test_what_only_the_new_one_gives_comes_behind_the_old_ones() -> None:
    assert await both(("1", "2"), ("2", "3", "4")) == ["1", "2", "3", "4"]


async def test_the_same_again_after_the_change_is_another_message() -> None:
    assert await both(("1", "2"), ("2",), after=("2", "1")) == ["1", "2", "2", "1"]


async def test_in_a_queue_group_equal_messages_are_two() -> None:
    assert await both(("1",), ("1",), shared=True) == ["1", "1"]


async def test_nothing_on_either_waits_for_nothing() -> None:
    assert await both((), (), after=("1",)) == ["1"]


async def undone(shared: bool) -> Taken:
    """What the callback gets when a second connection, over which one message came, is not taken after all."""
    taken: Taken = []

    async def cb(message: Any) -> None:
        taken.append(message.data.decode())

    first = On(cb)
    overlap = Overlap(cb, first, shared)
    overlap.on = second = On(overlap.take_new)
    second.comes("1" if not shared else "0")
    await asyncio.sleep(0)
    assert overlap.undo() is first
    first.comes("1", "2")
    await asyncio.gather(first._pending_queue.join(), second._pending_queue.join())
    for on in (first, second):
        on.task.cancel()
    return taken


async def test_of_a_second_connection_that_is_not_taken_after_all_nothing_is_taken_twice() -> None:
    assert await undone(shared=False) == ["1", "2"]


async def test_of_a_second_connection_that_is_not_taken_after_all_nothing_of_a_queue_group_is_lost() -> None:
    assert sorted(await undone(shared=True)) == ["0", "1", "2"]
