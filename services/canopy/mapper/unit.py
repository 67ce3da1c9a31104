"""Builds the Mapper: one driver, all devices of its protocol on this node."""

import asyncio
import random
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.bus.healths import PROTOCOL
from canopy.bus.reader import SetReader
from canopy.contracts import catalogue as c
from canopy.mapper import load as drivers
from canopy.mapper.core import State
from canopy.mapper.handlers import Handlers, OverTheBus
from canopy.mapper.jobs import Pace
from canopy.mapper.runner import Runner
from canopy.mapper.sdk import Driver
from canopy.mapper.settings import Settings
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import SettingsError, load

NAME = "mapper"


def build(env: Environment) -> "Mapper":
    """Make the unit; settings and the driver are read here. Raises SettingsError."""
    settings = load(Settings)
    return Mapper(env, settings, driver_of(settings.driver))


def driver_of(name: str) -> Driver:
    """The driver of a protocol or of a file. Raises SettingsError that says what would be right."""
    try:
        return drivers.from_file(Path(name)) if name.endswith(".py") else drivers.by_protocol(name)
    except drivers.NoDriver as e:
        raise SettingsError(f"driver (CANOPY_MAPPER_DRIVER): {e}") from e


class Mapper:
    """The unit. `run` may be called again after it ended: each run is a new session of the mapper."""

    name = NAME

    def __init__(self, env: Environment, settings: Settings, driver: Driver) -> None:
        self._env, self._settings, self._driver = env, settings, driver
        self._runner: Runner | None = None
        env.health.tell(PROTOCOL, lambda: driver.protocol)
        env.metrics.gauge("canopy_mapper_devices", read=lambda: float(len(self._states())))
        env.metrics.gauge("canopy_mapper_devices_online", read=lambda: float(self._states().count(State.ONLINE)))

    async def run(self, started: Callable[[], None]) -> None:
        """Serve devices until cancelled."""
        bus, rng = self._env.bus(NAME), random.Random()  # noqa: S311
        session = f"{time.time_ns() // 1_000_000:014d}-{uuid.uuid4().hex[:6]}"
        pace = Pace(refresh_seconds=self._settings.refresh_seconds)
        clock = SystemClock()
        self._runner = Runner(
            self._driver, OverTheBus(bus), clock, rng, session, pace, None, bus.telemetry, bus.letters
        )
        try:
            await self._work(bus, self._runner, clock, rng, started)
        finally:
            self._runner = None
            await bus.close()

    async def _work(
        self, bus: Bus, runner: Runner, clock: Clock, rng: random.Random, started: Callable[[], None]
    ) -> None:
        handlers = Handlers(runner, bus.letters)
        reader = SetReader(
            bus, c.DEVICES_CHANNEL, handlers.take, seconds=self._settings.read_seconds, clock=clock, rng=rng
        )
        await bus.hear(c.META_CHANGED, reader.changed, channel=c.DEVICES_CHANNEL)
        await bus.hear(c.TWIN_DELTA, handlers.delta)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(runner.run())
            tasks.create_task(reader.run())
            started()

    def _states(self) -> list[State]:
        return list(self._runner.states().values()) if self._runner else []
