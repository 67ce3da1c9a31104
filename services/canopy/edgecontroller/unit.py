"""Builds EdgeController: the only place that knows all of its parts."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.bus.healths import LEADS
from canopy.contracts import catalogue
from canopy.edgecontroller.adapters.kube import informer
from canopy.edgecontroller.core import Rules
from canopy.edgecontroller.counts import Counts
from canopy.edgecontroller.handlers import NodeWriter
from canopy.edgecontroller.lead import Lead
from canopy.edgecontroller.replica import Replica
from canopy.edgecontroller.settings import Settings
from canopy.kube.api import Kube
from canopy.kube.informer import ages, failing
from canopy.kube.leader import LeaderSettings, identity
from canopy.kube.leading import Leading
from canopy.kube.patient import cluster
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import load

NAME = "edgecontroller"
LEASE = "canopy-edgecontroller"
LOOK_SECONDS = 0.5


class EdgeController:
    """A runtime Unit; `run` may be called again after a crash."""

    name = NAME

    def __init__(self, env: Environment, settings: Settings, clock: Clock) -> None:
        self._env, self._settings, self._clock = env, settings, clock
        self._identity = identity()
        self._counts = Counts(env.metrics)

    async def run(self, started: Callable[[], None]) -> None:
        async with AsyncExitStack() as stack:
            kube = await cluster(self._settings.kubeconfig)
            stack.push_async_callback(kube.close)
            bus = self._env.bus(NAME)
            stack.push_async_callback(bus.close)
            await self._work(bus, kube, started)

    async def _work(self, bus: Bus, kube: Kube, started: Callable[[], None]) -> None:
        replica = Replica(self._clock, self._counts)
        leading = self._leading(kube, replica)
        self._gauges(replica, leading)
        nodes = informer(kube, replica, bus.letters)
        self._env.health.tell(LEADS, lambda: "yes" if leading.leads() else "no")
        self._env.health.tell("kubernetes", lambda: failing([nodes]))
        gauge = self._env.metrics.gauge
        gauge("canopy_edgecontroller_watches_failing", read=lambda: float(nodes.last_error is not None))
        gauge("canopy_edgecontroller_informer_age_seconds", read=lambda: ages([nodes]))
        await bus.hear(catalogue.PRESENCE, replica.hear)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(nodes.run())
            tasks.create_task(self._watch_connection(replica))
            await nodes.wait_synced()
            tasks.create_task(leading.run())
            started()

    def _leading(self, kube: Kube, replica: Replica) -> Leading:
        settings, clock, counts = self._settings, self._clock, self._counts

        async def duty() -> None:
            rules = rules_of(settings)
            writer = NodeWriter(replica, kube, clock, rules, settings.allowed, leading.leads, counts)
            lead = Lead(replica, writer, settings, clock, counts, self._env.letters)
            try:
                self._env.metrics.gauge("canopy_edgecontroller_backlog", read=lambda: lead.backlog)
                await lead.run()
            finally:
                self._env.metrics.gauge("canopy_edgecontroller_backlog", read=float)

        times = LeaderSettings.of(settings.lease_seconds)
        leading = Leading(kube, settings.lease_namespace, LEASE, self._identity, duty, times)
        return leading

    async def _watch_connection(self, replica: Replica) -> None:
        while True:
            replica.connected(self._env.connection.connected)
            replica.forget()
            await self._clock.sleep(LOOK_SECONDS)

    def _gauges(self, replica: Replica, leading: Leading) -> None:
        gauge = self._env.metrics.gauge
        gauge("canopy_edgecontroller_leads", read=lambda: float(leading.leads()))
        gauge("canopy_edgecontroller_nodes", read=lambda: len(replica.nodes))
        gauge("canopy_edgecontroller_heard", read=lambda: len(replica.heard))
        gauge("canopy_edgecontroller_backlog", read=float)


def rules_of(settings: Settings) -> Rules:
    return Rules(
        gone_after_ms=round(settings.gone_after_seconds * 1000),
        renew_ms=round(settings.renew_seconds * 1000),
        refresh_ms=round(settings.refresh_seconds * 1000),
        listen_first_ms=round(settings.listen_first_seconds * 1000),
    )


def build(env: Environment) -> EdgeController:
    """Settings are read here; a fault in them raises SettingsError."""
    return EdgeController(env, load(Settings), SystemClock())
