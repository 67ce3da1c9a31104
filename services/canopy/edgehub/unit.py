"""Builds EdgeHub: the only place that does."""

import asyncio
import random
import secrets
from collections.abc import Callable
from importlib.metadata import version

from canopy.bus.environment import Environment
from canopy.bus.healths import Gathered
from canopy.bus.leaf import linked
from canopy.contracts import catalogue as c
from canopy.contracts.wire import Hello
from canopy.edgehub.core import Machine
from canopy.edgehub.handlers import Carrier
from canopy.edgehub.lanes import Lanes
from canopy.edgehub.letters import LetterCarrier
from canopy.edgehub.session import Manner, SessionKeeper
from canopy.edgehub.settings import Settings
from canopy.edgehub.spans import SpanCarrier
from canopy.edgehub.watch import LinkWatch
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import load

EXPECTED = ("metamanager", "devicetwin")
"""Units that every node has: they show as silent also when they were never heard."""


class EdgeHub:
    """The unit. `run` may be called again after a crash; it begins with a new session."""

    name = "edgehub"

    def __init__(self, env: Environment, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self._env, self._settings, self._clock, self._rng = env, settings, clock, rng

    async def run(self, started: Callable[[], None]) -> None:
        """Until cancelled."""
        env, settings = self._env, self._settings
        bus = env.bus(self.name, env.shared.node_name)
        machine = Machine(self._rng)
        units = Gathered(self._clock, EXPECTED, env.health)
        keeper = SessionKeeper(bus, machine, self._clock, _manner(settings), env.health, self._rng, units.units)
        env.metrics.gauge("canopy_edgehub_up", read=lambda: float(machine.up))
        env.metrics.gauge("canopy_edgehub_session", read=lambda: float(machine.link.session))
        env.metrics.counted("canopy_edgehub_sessions_total", lambda: float(keeper.sessions))
        keeper.refusals = env.metrics.counter("canopy_edgehub_refusals_total")
        carrier = Carrier(bus, keeper, Lanes(settings.reports_at_once), env.metrics)
        watch = LinkWatch(keeper, lambda: linked(bus), self._clock, settings.look_seconds)
        spans = SpanCarrier(
            bus, env.telemetry, lambda: machine.up, self._clock, self._slowly(), env.metrics, settings.spans_kept
        )
        try:
            await bus.open()
            await carrier.open()
            await LetterCarrier(bus, lambda: machine.up).open()
            await bus.hear(c.HUB_SPANS, spans.heard)
            await bus.hear(c.HUB_HEALTH, units.heard)
            started()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(keeper.run())
                tasks.create_task(watch.run())
                tasks.create_task(spans.run())
        finally:
            await bus.close()

    def _slowly(self) -> Backoff:
        """Spans are the least of what wants to go up."""
        return Backoff(1.0, 15.0, self._rng)


def _manner(settings: Settings) -> Manner:
    hello = Hello(
        version=version("canopy"), labels=settings.labels, capacity=settings.capacity, edge=secrets.token_hex(8)
    )
    return Manner(hello, settings.ask_seconds, settings.ask_tries, settings.compare_seconds)


def build(env: Environment) -> EdgeHub:
    """Read the settings and make the unit; nothing is opened before `run`."""
    return EdgeHub(env, load(Settings), SystemClock(), random.Random())  # noqa: S311 - spreads retries
