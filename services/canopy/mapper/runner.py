"""The mapper's engine: one task for all devices of a driver. Knows no bus: `Twins` takes what is reported.

`unit.py` builds it; its handlers call `set_devices` and `desire`. Execution only: every choice is `core`'s.
"""

import asyncio
import itertools
import logging
import random
import zlib
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from msgspec import structs

from canopy.contracts.wire import MapperReport, MapperResult
from canopy.mapper import work
from canopy.mapper.core import NEVER, Device, Notes, State
from canopy.mapper.jobs import Answered, Pace
from canopy.mapper.schedule import Key, Schedule
from canopy.mapper.sdk import DeviceView, Driver
from canopy.runtime.clock import Clock
from canopy.runtime.letters import DeadLetters
from canopy.runtime.telemetry import Spanning, Telemetry

log = logging.getLogger(__name__)
DRIVER_TRIES = 3


class NotAnswered(Exception):
    """Nobody answered a report: it is made anew, with the newest values, after a while."""


class Twins(Protocol):
    """Where reports go. One attempt, bounded in time; the runner repeats."""

    async def report(self, report: MapperReport) -> MapperResult:
        """Returns after the commit. Raises NotAnswered."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds one runner."""

    job_seconds: float = 30.0
    report_seconds: float = 5.0
    close_seconds: float = 3.0
    reports_at_once: int = 64


class Runner:
    """Serves the devices of one driver. `mapper` is this process's session: later ones sort higher."""

    def __init__(
        self,
        driver: Driver,
        twins: Twins,
        clock: Clock,
        rng: random.Random,
        mapper: str,
        pace: Pace | None = None,
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
        letters: DeadLetters | None = None,
    ) -> None:
        self._letters = letters if letters is not None else DeadLetters("mapper")
        self.driver = driver
        self._twins = twins
        self._clock = clock
        self._rng = rng
        self._mapper = mapper
        self._pace = pace or Pace()
        self._limits = limits or Limits()
        self._telemetry = telemetry or Telemetry("mapper", enabled=False)
        self._to_write: dict[Key, str] = {}  # the trace of what a device should be set to
        self._to_report: dict[Key, str] = {}  # the trace of what was written
        self._devices: dict[Key, Device] = {}
        self._next: dict[Key, DeviceView | None] = {}
        self._broken: Mapping[Key, str] = {}
        self._lines: dict[Key, str] = {}
        self._jobs = Schedule()
        self._reports = Schedule()
        self._seq = itertools.count(1)
        self._woken = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what the shell says ---------------------------------------------------------------------------------------
    def set_devices(self, views: Iterable[DeviceView], broken: Mapping[Key, str] | None = None) -> None:
        """These are the devices now. Those that changed in uid or digest are closed and begun anew.

        Of those in `broken` only what is wrong is said: nothing is tried.
        """
        self._broken = broken or {}
        wanted = {view.key: view for view in views}
        for key in [k for k in self._devices if k not in wanted]:
            self._leave(key, None)
        for key, view in wanted.items():
            try:
                self._set(key, view)
            except Exception as bug:
                self._letters.failed(f"beginning {'/'.join(key)}", bug, by_place=True)
        self._woken.set()

    def desire(self, namespace: str, name: str, desired: Mapping[str, str], trace: str = "") -> None:
        """A device's whole delta: written at once where the device is online. `trace` is its traceparent."""
        key = (namespace, name)
        device = self._devices.get(key)
        if device is not None:
            _note(device.want(desired, self._clock.monotonic()))
            if trace:
                self._to_write[key] = trace
            self._plan(key, first=True)

    def states(self) -> Mapping[Key, State]:
        """Each device's state, for health."""
        return {key: device.state for key, device in self._devices.items()}

    async def run(self) -> None:
        """Serve until cancelled; then let go of every device."""
        try:
            while True:
                self._start_what_is_due(self._clock.monotonic())
                due = min(self._jobs.next_at(), self._reports.next_at())
                await self._clock.wait(self._woken, max(0.0, due - self._clock.monotonic()))
        finally:
            await self._close_all()

    # --- devices come and go ---------------------------------------------------------------------------------------
    def _set(self, key: Key, view: DeviceView) -> None:
        device = self._devices.get(key)
        if device is None:
            self._begin(view)
        elif device.leaving:
            self._next[key] = view
        elif (device.view.uid, device.view.digest) != (view.uid, view.digest):
            self._leave(key, view)

    def _begin(self, view: DeviceView) -> None:
        self._lines[view.key] = work.line(self.driver, view)
        now, why = self._clock.monotonic(), self._broken.get(view.key, "")
        device = self._devices[view.key] = Device(view, self._pace, now, self._rng.random, self._wall)
        if why:
            _note(device.misconfigured(why, now))
        self._plan(view.key)

    def _wall(self, at: float) -> int:
        """A time of the monotonic clock in ms since 1970."""
        return self._clock.now_ms() - round((self._clock.monotonic() - at) * 1000)

    def _leave(self, key: Key, successor: DeviceView | None) -> None:
        self._next[key] = successor
        self._devices[key].leave()
        self._plan(key, first=True)

    def _left(self, key: Key) -> None:
        del self._devices[key], self._lines[key]
        self._to_write.pop(key, None)
        self._to_report.pop(key, None)
        self._jobs.drop(key)
        self._reports.drop(key)
        successor = self._next.pop(key)
        if successor is not None:
            self._begin(successor)

    # --- turns -----------------------------------------------------------------------------------------------------
    def _start_what_is_due(self, now: float) -> None:
        for key in self._jobs.take(now):
            self._spawn(self._job(key))
        for key in self._reports.take(now):
            self._spawn(self._report(key))

    async def _job(self, key: Key) -> None:
        device = self._devices[key]
        try:
            await (self._let_go(device) if device.leaving else self._serve(key, device))
        finally:
            self._jobs.finished(key)
            self._woken.set()
        if device.leaving and not device.opened:
            self._left(key)
        else:
            self._plan(key)

    async def _let_go(self, device: Device) -> None:
        if device.opened:
            device.opened = False
            await work.close(self.driver, device.view, self._limits.close_seconds)

    async def _serve(self, key: Key, device: Device) -> None:
        was_away = device.waits_to_retry
        job = device.job(self._clock.monotonic())
        with self._writing(key, bool(job.write)) as span:
            limit, bug = self._limits.job_seconds, partial(self._driver_bug, key)
            outcome = await work.do(self.driver, device.view, device.opened, job, limit, bug)
            if not isinstance(outcome, Answered):
                span.fail(outcome.reason)
            if span.recording:
                self._to_report[key] = span.traceparent
        _note(device.took(job, outcome, self._clock.monotonic(), self._rng.random))
        if was_away and device.state is State.ONLINE:
            self._retry_neighbours(key)

    def _driver_bug(self, key: Key, error: Exception) -> None:
        """A driver raised what no driver should, again and again: the device is tried on, at its own pace."""
        source = f"driver {self.driver.protocol} at {'/'.join(key)}"
        self._letters.failed(source, error, by_place=True, after=DRIVER_TRIES)

    def _writing(self, key: Key, writes: bool) -> Spanning:
        return self._joined(self._to_write.pop(key, "") if writes else "", "write the device", key)

    def _joined(self, trace: str, name: str, key: Key) -> Spanning:
        """A span in this trace; none where it is empty."""
        context = self._telemetry.remote(trace)
        return self._telemetry.span(name, context, kind="client", attributes={"device": "/".join(key)}, begins=False)

    async def _report(self, key: Key) -> None:
        device = self._devices.get(key)
        report = device.report(self._mapper, next(self._seq)) if device else None
        try:
            if device and report:
                _note(await self._say(device, report))
        finally:
            self._reports.finished(key)
            self._woken.set()
        if key in self._devices:
            self._plan(key)

    async def _say(self, device: Device, report: MapperReport) -> Notes:
        try:
            async with asyncio.timeout(self._limits.report_seconds):
                result = await self._reported(device.view.key, report)
        except (NotAnswered, TimeoutError):
            device.unanswered(self._clock.monotonic(), self._rng.random)
            return []
        return device.answered(report, result, self._clock.monotonic(), self._rng.random)

    async def _reported(self, key: Key, report: MapperReport) -> MapperResult:
        """The first after a write that was traced goes on in its trace."""
        trace = self._to_report.pop(key, "")
        if not trace:
            return await self._twins.report(report)
        with self._joined(trace, "report what was read back", key) as span:
            return await self._twins.report(structs.replace(report, trace=span.traceparent))

    def _retry_neighbours(self, key: Key) -> None:
        """What is on the same line was perhaps away for the same reason."""
        now = self._clock.monotonic()
        for other, line in self._lines.items():
            if line == self._lines[key] and self._devices[other].waits_to_retry:
                self._devices[other].retry(now)
                self._plan(other)

    def _plan(self, key: Key, *, first: bool = False) -> None:
        device = self._devices[key]
        due = device.next_at()
        self._jobs.put(key, self._lines[key], due, first=first and due <= self._clock.monotonic())
        if device.report_at != NEVER:
            lane = str(zlib.crc32("/".join(key).encode()) % self._limits.reports_at_once)
            self._reports.put(key, lane, device.report_at)
        self._woken.set()

    # --- tasks -----------------------------------------------------------------------------------------------------
    def _spawn(self, job: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._letters.failed("a task of the mapper", task.exception() or RuntimeError(), by_place=True)

    async def _close_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        opened = [d.view for d in self._devices.values() if d.opened]
        closing = (work.close(self.driver, view, self._limits.close_seconds) for view in opened)
        await asyncio.gather(*closing)


def _note(notes: Notes) -> None:
    for note in notes:
        log.info(note)
