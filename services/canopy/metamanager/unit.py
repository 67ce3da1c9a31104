"""Builds MetaManager: the only place that does."""

import asyncio
import logging
import random
from collections.abc import Callable

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.contracts.catalogue import DOWN_CHANNELS
from canopy.metamanager import rows
from canopy.metamanager.core import Pace
from canopy.metamanager.handlers import Channel
from canopy.metamanager.settings import Settings
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.equal import Equal
from canopy.runtime.settings import load
from canopy.store.migrations import migrations_of
from canopy.store.sqlite import Database

log = logging.getLogger("canopy.metamanager")
FILE = "metamanager.sqlite"


class MetaManager:
    """The unit. `run` may be called again after a crash; it goes on from its file."""

    name = "metamanager"

    def __init__(self, env: Environment, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self._env, self._settings, self._clock, self._rng = env, settings, clock, rng
        self._commits = env.metrics.histogram("canopy_metamanager_commit_seconds").observe
        self._equal = Equal("metamanager", env.metrics, clock)

    async def run(self, started: Callable[[], None]) -> None:
        """Until cancelled. Raises the store's errors, which say what to do about the file."""
        path = self._env.shared.data_dir / FILE
        if not path.exists():
            log.info("%s is not there: beginning with an empty set", path)
        async with Database.open(path, migrations_of("canopy.metamanager"), on_commit=self._commits) as database:
            bus = self._env.bus(self.name)
            try:
                await self._serve(bus, database, started)
            finally:
                await bus.close()

    async def _serve(self, bus: Bus, database: Database, started: Callable[[], None]) -> None:
        channels = [await self._channel(name, bus, database) for name in DOWN_CHANNELS]
        self._measure(channels)
        for channel in channels:
            await channel.open()
        started()
        async with asyncio.TaskGroup() as group:
            for channel in channels:
                group.create_task(channel.run(), name=f"{self.name} {channel.name}")

    async def _channel(self, name: str, bus: Bus, database: Database) -> Channel:
        stored = await database.read(lambda connection: rows.load(connection, name))
        pace = Pace(self._settings.check_seconds, self._rng)
        return Channel(
            name, bus, database, stored, pace, self._clock, self._env.health, self._settings.ask_seconds, self._equal
        )

    def _measure(self, channels: list[Channel]) -> None:
        gauge = self._env.metrics.gauge
        for channel in channels:
            follower, what = channel.follower, f"canopy_metamanager_{channel.name}"
            gauge(f"{what}_objects", read=lambda f=follower: float(len(f.entries)))  # type: ignore[misc]
            gauge(f"{what}_proven", read=lambda f=follower: float(f.proven))  # type: ignore[misc]


def build(env: Environment) -> MetaManager:
    """Read the settings and make the unit; nothing is opened before `run`."""
    return MetaManager(env, load(Settings), SystemClock(), random.Random())  # noqa: S311 - spreads retries
