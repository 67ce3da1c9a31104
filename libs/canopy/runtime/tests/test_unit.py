"""How units run, crash, come back and end."""

import asyncio
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from canopy.runtime.health import Health
from canopy.runtime.unit import Unit, run_units
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until


class Highest(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return b


class Steady:
    """Runs until cancelled, and says when it began and ended."""

    def __init__(self, name: str, said: list[str]) -> None:
        self.name = name
        self._said = said

    async def run(self, started: Callable[[], None]) -> None:
        started()
        self._said.append(f"{self.name} began")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self._said.append(f"{self.name} ended")


class Crashing:
    """Works for some time, then does what the test says."""

    name = "crashing"

    def __init__(self, clock: FrozenClock, end: Callable[[], Any], works_seconds: float = 0) -> None:
        self.begun_at: list[float] = []
        self._clock = clock
        self._end = end
        self._works_seconds = works_seconds

    async def run(self, started: Callable[[], None]) -> None:
        self.begun_at.append(self._clock.monotonic())
        started()
        await self._clock.sleep(self._works_seconds)
        self._end()


class Deaf:
    """Does not end when told to."""

    name = "deaf"

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.began = 0

    async def run(self, started: Callable[[], None]) -> None:
        self.began += 1
        started()
        while not self.free.is_set():
            try:
                await self.free.wait()
            except asyncio.CancelledError:
                continue


def crash() -> None:
    raise LookupError("a bug")


def cancelled_from_inside() -> None:
    raise asyncio.CancelledError


@asynccontextmanager
async def running(*units: Unit, **options: Any) -> AsyncIterator[asyncio.Event]:
    stop = asyncio.Event()
    task = asyncio.create_task(run_units(units, stop=stop, **options))
    yield stop
    stop.set()
    async with asyncio.timeout(10):
        await task


async def test_units_run_until_stopped_and_end_in_reverse_order() -> None:
    said: list[str] = []
    async with running(*(Steady(name, said) for name in "abc")):
        await until(lambda: len(said) == 3)
    assert said == ["a began", "b began", "c began", "c ended", "b ended", "a ended"]


async def test_a_cancelled_run_ends_its_units_too() -> None:
    said: list[str] = []
    task = asyncio.create_task(run_units([Steady("a", said), Steady("b", said)]))
    await until(lambda: len(said) == 2)
    task.cancel()
    await asyncio.wait({task})
    assert said[2:] == ["b ended", "a ended"]


@pytest.mark.parametrize("end", [crash, cancelled_from_inside, lambda: None])
async def test_a_unit_that_ends_is_started_again_with_backoff_and_its_neighbour_never_notices(
    end: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    clock, said = FrozenClock(), list[str]()
    crashing = Crashing(clock, end)
    async with running(Steady("steady", said), crashing, clock=clock, rng=Highest()):
        await clock.advance(70)
        assert crashing.begun_at == [0, 1, 3, 7, 15, 31, 61]
        assert said == ["steady began"]
    assert "crashing starts again" in caplog.text


async def test_a_crash_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    clock = FrozenClock()
    async with running(Crashing(clock, crash), clock=clock):
        await clock.until_sleeping()
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR and r.name == "canopy.run"]
    assert (record.getMessage(), record.exc_info is not None) == ("crashing crashed", True)


async def test_a_crash_is_told_so_that_people_see_it() -> None:
    clock, told = FrozenClock(), list[tuple[str, BaseException]]()
    async with running(Crashing(clock, crash), clock=clock, crashed=lambda unit, error: told.append((unit, error))):
        await clock.until_sleeping()
    assert [(unit, type(error)) for unit, error in told] == [("crashing", LookupError)]


async def test_a_unit_that_ran_for_long_begins_with_the_short_waits_again() -> None:
    clock = FrozenClock()
    crashing = Crashing(clock, crash, works_seconds=100)
    async with running(crashing, clock=clock, rng=Highest()):
        await clock.advance(310)
    assert crashing.begun_at == [0, 101, 202, 303]


async def test_the_health_says_whether_a_unit_runs() -> None:
    clock, health = FrozenClock(), Health("crashing")
    async with running(Crashing(clock, crash, works_seconds=5), clock=clock, healths=[health], rng=Highest()):
        await clock.until_sleeping()
        assert health.ready
        await clock.advance(5)
        assert [(c.check, c.ok, c.detail) for c in health.checks] == [("running", False, "crashed: LookupError: a bug")]
        await clock.advance(1)
        assert health.ready


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains(number: signal.Signals) -> None:
    said, before = list[str](), signal.getsignal(number)
    task = asyncio.create_task(run_units([Steady("a", said)]))
    await until(lambda: said)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(10):
        await task
    assert said == ["a began", "a ended"]
    assert signal.getsignal(number) in (before, signal.SIG_DFL, signal.default_int_handler)


async def test_a_unit_that_does_not_end_is_abandoned_after_the_drain_time(caplog: pytest.LogCaptureFixture) -> None:
    deaf, statuses, said = Deaf(), list[int](), list[str]()
    async with running(Steady("a", said), deaf, drain_seconds=0.05, abandon=statuses.append):
        await until(lambda: said)
    assert statuses == [70]
    assert said == ["a began", "a ended"]
    (record,) = [record for record in caplog.records if record.getMessage() == "did not end in time"]
    assert vars(record)["units"] == "deaf"
    deaf.free.set()


async def test_a_second_signal_ends_at_once() -> None:
    deaf, statuses = Deaf(), list[int]()

    def abandon(status: int) -> None:
        statuses.append(status)
        deaf.free.set()

    stop = asyncio.Event()
    task = asyncio.create_task(run_units([deaf], stop=stop, drain_seconds=60, abandon=abandon))
    await until(lambda: deaf.began)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(stop.is_set)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await task
    assert (statuses, deaf.began) == ([128 + signal.SIGTERM], 1)
