"""Builds DeviceTwin: the only place that knows all its parts."""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import Callable

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.bus.gateway import Gateway
from canopy.bus.reader import SetReader
from canopy.contracts import catalogue as c
from canopy.contracts.wire import Name
from canopy.devicetwin.batch import Context
from canopy.devicetwin.handlers import Counts, Handlers
from canopy.devicetwin.repeats import Repeats
from canopy.devicetwin.reports import Reports
from canopy.devicetwin.rows import Rows, Stored
from canopy.devicetwin.settings import Settings
from canopy.devicetwin.shelf import Shelf
from canopy.devicetwin.stream import Stream
from canopy.devicetwin.topics import Topics
from canopy.runtime.clock import SystemClock
from canopy.runtime.equal import Equal
from canopy.runtime.settings import load
from canopy.runtime.telemetry import Telemetry
from canopy.store.migrations import migrations_of
from canopy.store.sqlite import Database

NAME = "devicetwin"
FILE = "devicetwin.sqlite"
MAPPERS_AT_ONCE = 1024


def build(env: Environment) -> "DeviceTwin":
    """Make the unit; its settings are read here. Raises SettingsError."""
    return DeviceTwin(env, load(Settings))


def tracing(telemetry: Telemetry) -> Callable[[str, Name], str]:
    """What to keep beside a changed row: a span of ours in the trace that came, or (a few a second) a new one."""

    def kept(came: str, device: Name) -> str:
        parent = telemetry.remote(came) if came else None
        with telemetry.span("twin changed", parent, kind="consumer", attributes={"device": "/".join(device)}):
            return telemetry.current_traceparent() or ""

    return kept


class DeviceTwin:
    """The unit. `run` may be called again after it ended."""

    name = NAME

    def __init__(self, env: Environment, settings: Settings) -> None:
        self._env, self._settings = env, settings
        self._shelf, metrics = Shelf(), env.metrics
        self._waiting: Callable[[], float] = lambda: 0
        self._commits = metrics.histogram("canopy_devicetwin_commit_seconds").observe
        self._equal = Equal(NAME, metrics, SystemClock())
        self._counts = Counts(
            messages=metrics.counter("canopy_devicetwin_messages_total"),
            dropped=metrics.counter("canopy_devicetwin_dropped_total"),
            failed=metrics.counter("canopy_devicetwin_failed_total"),
        )
        self._gauges()

    def _gauges(self) -> None:
        gauge = self._env.metrics.gauge
        gauge("canopy_devicetwin_devices", read=lambda: len(self._shelf.devices))
        gauge("canopy_devicetwin_states_pending", read=lambda: self._shelf.summary.pending)
        gauge("canopy_devicetwin_oldest_pending_seconds", read=lambda: self._shelf.oldest_seconds(time.monotonic()))
        gauge("canopy_devicetwin_messages_waiting", read=lambda: self._waiting())

    async def run(self, started: Callable[[], None]) -> None:
        """Open the file, then work until cancelled."""
        path = self._env.shared.data_dir / FILE
        async with Database.open(path, migrations_of("canopy.devicetwin"), on_commit=self._commits) as database:
            bus = self._env.bus(NAME)
            try:
                await self._work(bus, Rows(database), started)
            finally:
                await bus.close()

    async def _work(self, bus: Bus, rows: Rows, started: Callable[[], None]) -> None:
        stored = await rows.load()
        shelf, rng = Shelf(stored.devices, time.monotonic()), random.Random()  # noqa: S311
        self._shelf = shelf
        gateway = Gateway(bus)
        handlers = self._handlers(bus, gateway, rows, shelf, stored, rng)
        self._waiting = lambda: handlers.waiting
        settings = self._settings
        reports = Reports(
            bus,
            shelf,
            handlers.put,
            SystemClock(),
            rng,
            settings.report_seconds,
            settings.report_pause_seconds,
            self._equal,
        )
        reading = SetReader(
            bus,
            c.DEVICES_CHANNEL,
            handlers.read,
            seconds=settings.read_seconds,
            clock=SystemClock(),
            rng=rng,
            as_of=lambda: handlers.as_of,
        )
        handlers.on_change.append(reports.wake)
        bus.connection.on_reconnect(handlers.reconnected)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(handlers.run())
                await handlers.started.wait()
                await self._listen(bus, handlers, reports, reading)
                tasks.create_task(reading.run())
                tasks.create_task(reports.run())
                started()
        finally:
            bus.connection.forget(handlers.reconnected)
            with contextlib.suppress(Exception):
                await gateway.close()

    def _handlers(
        self, bus: Bus, gateway: Gateway, rows: Rows, shelf: Shelf, stored: Stored, rng: random.Random
    ) -> Handlers:
        settings, topics = self._settings, Topics(self._env.shared.node_name)
        context = Context(topics, lambda: uuid.uuid4().hex, tracing(bus.telemetry), settings.value_max_bytes)
        return Handlers(
            bus,
            Stream(gateway, stored.position, settings.gateway_max_bytes, rows.keep),
            rows,
            shelf,
            stored.as_of,
            context,
            SystemClock(),
            self._counts,
            Repeats(rng, settings.delta_first_seconds, settings.delta_most_seconds),
            gateway.wake,
            settings.waiting_max_messages,
            rng,
            bus.letters,
        )

    async def _listen(self, bus: Bus, handlers: Handlers, reports: Reports, reading: SetReader) -> None:
        for topic in (c.TWIN_UPDATE, c.TWIN_GET, c.STATE_UPDATE):
            await bus.hear_unstored(topic, handlers.spoken)
        await bus.hear_unstored(c.MEMBERSHIP_GET, handlers.spoken, node=self._env.shared.node_name)
        await bus.serve(c.TWIN_REPORT, handlers.reported, concurrency=MAPPERS_AT_ONCE)
        await bus.serve(c.TWIN_SUMMARY, handlers.summary)
        await bus.serve(c.TWIN_POSITION, handlers.position)
        await bus.hear(c.META_CHANGED, reading.changed, channel=c.DEVICES_CHANNEL)
        await bus.hear(c.HUB_WANT, reports.wanted, channel=c.UP_CHANNEL)
        await bus.hear(c.LINK, reports.link)
