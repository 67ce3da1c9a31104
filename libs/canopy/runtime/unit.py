"""What a unit is, and how one or several run in a process. The command line calls `run_units`; no unit knows of others.

A unit that crashes is started again; its neighbours never notice.
"""

import asyncio
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.health import Health

FIRST_RESTART_SECONDS = 1.0
MOST_RESTART_SECONDS = 30.0
STEADY_SECONDS = 60.0  # who ran that long begins with the short waits again
DRAIN_SECONDS = 10.0
EXIT_STUCK = 70  # EX_SOFTWARE

log = logging.getLogger("canopy.run")


class Unit(Protocol):
    """What can run alone. `run` works until it is cancelled, and calls `started` once it can do its job."""

    @property
    def name(self) -> str: ...

    async def run(self, started: Callable[[], None]) -> None: ...


async def run_units(
    units: Sequence[Unit],
    *,
    stop: asyncio.Event | None = None,
    drain_seconds: float = DRAIN_SECONDS,
    healths: Sequence[Health] = (),
    clock: Clock | None = None,
    rng: random.Random | None = None,
    abandon: Callable[[int], None] = os._exit,
    crashed: Callable[[str, BaseException], None] = lambda unit, error: None,
) -> None:
    """Run them until SIGTERM, SIGINT, `stop` or a cancellation; then end them in reverse order within `drain_seconds`.

    A unit's health (that with its name) gets a check `running`. When units do not end in time, or at a second signal,
    `abandon` is called with a status: nothing else ends a process whose task does not listen. `crashed` hears of each
    unit that ended by an exception.
    """
    jitter = rng or random.Random()  # noqa: S311 - spreads restarts, keeps no secret
    supervisor = _Supervisor({health.unit: health for health in healths}, clock or SystemClock(), jitter, crashed)
    stop = stop or asyncio.Event()
    tasks = [asyncio.create_task(supervisor.keep(unit), name=unit.name) for unit in units]
    with _on_signals(stop, abandon):
        try:
            await stop.wait()
        finally:
            await _drain(tasks, drain_seconds, abandon)


class _Supervisor:
    """Keeps single units running."""

    def __init__(
        self,
        healths: dict[str, Health],
        clock: Clock,
        rng: random.Random,
        crashed: Callable[[str, BaseException], None],
    ) -> None:
        self._healths, self._crashed = healths, crashed
        self._clock = clock
        self._rng = rng

    async def keep(self, unit: Unit) -> None:
        backoff = Backoff(FIRST_RESTART_SECONDS, MOST_RESTART_SECONDS, self._rng)
        while True:
            began = self._clock.monotonic()
            self._say(unit, False, "starting")
            why = await self._once(unit)
            if _being_cancelled():
                return  # it took the cancellation for itself
            if self._clock.monotonic() - began >= STEADY_SECONDS:
                backoff.reset()
            seconds = backoff.next_seconds()
            self._say(unit, False, why)
            log.warning("%s starts again", unit.name, extra={"in_seconds": round(seconds, 2)})
            await self._clock.sleep(seconds)

    async def _once(self, unit: Unit) -> str:
        """Run until it ends by itself; says why."""
        try:
            await unit.run(lambda: self._started(unit))
        except asyncio.CancelledError:
            if _being_cancelled():
                raise
            log.exception("%s crashed: something cancelled it from inside", unit.name)
            return "crashed: cancelled from inside"
        except Exception as error:
            log.exception("%s crashed", unit.name)
            self._crashed(unit.name, error)
            return f"crashed: {type(error).__name__}: {error}"
        log.error("%s ended by itself", unit.name)
        return "ended by itself"

    def _started(self, unit: Unit) -> None:
        self._say(unit, True, "")
        log.info("%s started", unit.name)

    def _say(self, unit: Unit, ok: bool, detail: str) -> None:
        health = self._healths.get(unit.name)
        if health is not None:
            health.set("running", ok, detail)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _drain(tasks: Sequence[asyncio.Task[None]], seconds: float, abandon: Callable[[int], None]) -> None:
    """One after the other, the last started first; they share the time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait({task}, timeout=max(0.0, until - loop.time()))
    stuck = [task.get_name() for task in tasks if not task.done()]
    if stuck:
        log.error("did not end in time", extra={"units": ",".join(stuck), "drain_seconds": seconds})
        abandon(EXIT_STUCK)


@contextmanager
def _on_signals(stop: asyncio.Event, abandon: Callable[[int], None]) -> Iterator[None]:
    """Only where signals arrive: in the main thread."""
    signals = (signal.SIGTERM, signal.SIGINT) if threading.current_thread() is threading.main_thread() else ()
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, _heard, number, stop, abandon)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


def _heard(number: int, stop: asyncio.Event, abandon: Callable[[int], None]) -> None:
    if stop.is_set():
        log.error("a second signal: ending at once", extra={"signal": signal.Signals(number).name})
        abandon(128 + number)
    log.info("draining", extra={"signal": signal.Signals(number).name})
    stop.set()
