"""The real clock and the one that stands still."""

import asyncio
import math
import time

import pytest

from canopy.runtime.clock import Clock, SystemClock
from canopy.testing.clock import FrozenClock


async def test_the_system_clock_is_the_machine_s() -> None:
    clock: Clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 1000
    before = clock.monotonic()
    await clock.sleep(0)
    assert clock.monotonic() >= before


async def test_a_frozen_clock_only_moves_when_told() -> None:
    clock = FrozenClock(now_ms=1_000)
    assert (clock.now_ms(), clock.monotonic()) == (1_000, 0.0)
    await clock.advance(2.5)
    assert (clock.now_ms(), clock.monotonic()) == (3_500, 2.5)


async def test_a_stepped_wall_clock_leaves_the_monotonic_one_alone() -> None:
    clock = FrozenClock(now_ms=10_000)
    clock.step(-4)
    assert (clock.now_ms(), clock.monotonic()) == (6_000, 0.0)


async def test_sleepers_wake_at_their_own_moments_and_in_order() -> None:
    clock, woke = FrozenClock(), list[tuple[str, float]]()

    async def tick(name: str, seconds: float) -> None:
        while True:
            await clock.sleep(seconds)
            woke.append((name, clock.monotonic()))

    tasks = [asyncio.create_task(tick("a", 2)), asyncio.create_task(tick("b", 3))]
    await clock.advance(6)
    assert woke == [("a", 2), ("b", 3), ("a", 4), ("b", 6), ("a", 6)]
    assert clock.sleepers == 2
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert clock.sleepers == 0


@pytest.mark.parametrize("clock", [SystemClock(), FrozenClock()], ids=["system", "frozen"])
async def test_a_wait_ends_with_its_event_and_clears_it(clock: Clock) -> None:
    for seconds in (60.0, math.inf):
        event = asyncio.Event()
        task = asyncio.create_task(clock.wait(event, seconds))
        await asyncio.sleep(0)
        assert not task.done()
        event.set()
        await asyncio.wait_for(task, 5)
        assert not event.is_set()


async def test_a_wait_ends_with_its_time() -> None:
    clock, event = FrozenClock(), asyncio.Event()
    task = asyncio.create_task(clock.wait(event, 2))
    await clock.advance(1.9)
    assert not task.done()
    await clock.advance(0.1)
    assert task.done() and clock.sleepers == 0
    await SystemClock().wait(event, 0.001)


async def test_a_test_can_wait_until_somebody_sleeps() -> None:
    clock = FrozenClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.until_sleeping()
    await clock.advance(1)
    assert task.done()
