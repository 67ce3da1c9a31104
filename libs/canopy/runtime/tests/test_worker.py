"""A Worker keeps the intervals of its queue, and a bug in one key stops no other."""

import asyncio
from contextlib import asynccontextmanager, suppress

from canopy.runtime.clock import SystemClock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.worker import BUG_TRIES, Worked, Worker
from canopy.runtime.workqueue import Budget, Queue
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until


@asynccontextmanager
async def working(handle, clock, concurrency=2, **more):
    worker = Worker(Queue(1.0, Budget(10.0)), handle, clock, concurrency, **more)
    task = asyncio.create_task(worker.run())
    yield worker
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_key_is_worked_on_at_once_and_then_once_in_its_interval():
    clock, at = FrozenClock(), []

    async def handle(key):
        at.append((key, clock.monotonic()))
        return Worked(wrote=True)

    async with working(handle, clock) as worker:
        worker.mark("a")
        await clock.advance(0.1)
        worker.mark("a")
        await clock.advance(5)
    assert at == [("a", 0.0), ("a", 1.0)]


async def test_a_bug_in_one_key_is_tried_again_and_stops_no_other():
    clock, done = FrozenClock(), []

    async def handle(key):
        if key == "bad" and len(done) < 3:
            done.append("raised")
            raise ValueError("bug")
        done.append(key)
        return Worked()

    async with working(handle, clock, concurrency=1) as worker:
        worker.mark("bad")
        worker.mark("good")
        await clock.advance(5)
    assert "good" in done and done[-1] == "bad"


async def test_no_more_keys_are_in_hand_than_allowed():
    clock, most, in_hand = FrozenClock(), [0], set()

    async def handle(key):
        in_hand.add(key)
        most[0] = max(most[0], len(in_hand))
        await clock.sleep(0.1)
        in_hand.discard(key)
        return Worked()

    async with working(handle, clock, concurrency=3) as worker:
        for i in range(9):
            worker.mark(i)
        await clock.advance(2)
        assert len(worker.queue) == 0
    assert most == [3]


async def test_who_waits_for_the_budget_is_counted_and_comes_to_its_turn():
    clock, done, starved = FrozenClock(), [], []

    async def handle(key):
        done.append(key)
        return Worked(wrote=True)

    async with working(handle, clock, on_starved=lambda: starved.append(1)) as worker:
        for i in range(15):
            worker.mark(i)
        await clock.advance(0)
        assert done == list(range(10)) and starved
        await clock.advance(1)
    assert done == list(range(15))


async def test_a_full_hand_goes_on_when_it_has_room_again():
    """With the machine's clock, whose waiter is woken before the finished task is gone. Seen to stop for good after the
    first key: 84 of 100 devices kept an old DeviceStatus, until something else was marked."""
    done = []

    async def handle(key):
        done.append(key)
        return Worked()

    async with working(handle, SystemClock(), concurrency=1) as worker:
        for i in range(50):
            worker.mark(i)
        await until(lambda: len(done) == 50, 5)


async def test_a_key_whose_work_always_shows_a_bug_is_set_aside_until_it_is_marked_again():
    clock, tries, letters = FrozenClock(), [], DeadLetters("devicecontroller")

    async def handle(key):
        tries.append(key)
        raise KeyError("bug")

    async with working(handle, clock, letters=letters) as worker:
        worker.mark("bad")
        await clock.advance(300)
        assert len(tries) == BUG_TRIES
        worker.mark("bad")
        await clock.advance(300)
    assert [(letter.source, letter.count) for letter in letters.waiting(9)] == [("work on bad", 2 * BUG_TRIES)]
