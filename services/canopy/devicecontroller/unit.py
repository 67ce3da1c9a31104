"""Builds DeviceController: the only place that knows all of its parts."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import msgspec

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.bus.healths import LEADS
from canopy.bus.streams import Follow, LastValues, Value
from canopy.contracts import catalogue
from canopy.contracts.wire import AsOf
from canopy.devicecontroller.adapters.kube import StatusStore, informers
from canopy.devicecontroller.counts import Counts
from canopy.devicecontroller.handlers import ConditionWriter, Pages, StatusWriter
from canopy.devicecontroller.lead import Lead
from canopy.devicecontroller.replica import FIRST_EPOCH, Replica
from canopy.devicecontroller.settings import Settings
from canopy.kube.api import Kube
from canopy.kube.informer import ages, failing
from canopy.kube.leader import LeaderSettings, identity
from canopy.kube.leading import Leading
from canopy.kube.patient import cluster, cluster_uid
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import load

NAME = "devicecontroller"
LEASE = "canopy-devicecontroller"


class DeviceController:
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
        replica, marks = Replica(), LastValues(bus, "CLUSTER")
        self._gauges(replica)

        async def ensure() -> None:
            await marks.ensure(self._settings.cluster_max_bytes, self._env.shared.stream_replicas)

        replica.cluster = await cluster_uid(kube)
        leading = self._leading(bus, kube, replica)
        self._env.health.tell(LEADS, lambda: "yes" if leading.leads() else "no")
        self._env.metrics.gauge("canopy_devicecontroller_leads", read=lambda: float(leading.leads()))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_epoch(marks, replica, ensure).run())
            watches = informers(kube, replica, self._settings.namespace, bus.letters)
            gauge = self._env.metrics.gauge
            gauge(
                "canopy_devicecontroller_watches_failing", read=lambda: sum(w.last_error is not None for w in watches)
            )
            gauge("canopy_devicecontroller_informer_age_seconds", read=lambda: ages(watches))
            self._env.health.tell("kubernetes", lambda: failing(watches))
            for informer in watches:
                tasks.create_task(informer.run())
            await _until_ready(replica, self._clock)
            tasks.create_task(leading.run())
            pages = Pages(replica, self._counts)
            await bus.serve(
                catalogue.SET_PAGE,
                pages.answer,
                concurrency=self._settings.pages_at_once,
                channel=catalogue.DEVICES_CHANNEL,
            )
            started()

    def _leading(self, bus: Bus, kube: Kube, replica: Replica) -> Leading:
        settings, twins = self._settings, LastValues(bus, "TWINS")

        store = StatusStore(kube, self._env.telemetry)

        async def duty() -> None:
            lead = Lead(
                bus,
                twins,
                replica,
                StatusWriter(replica, twins, store.write, leading.leads, self._counts),
                ConditionWriter(replica, kube, self._clock, leading.leads, self._identity, self._counts),
                settings,
                self._clock,
                self._counts,
            )
            try:
                self._backlog(lambda: lead.backlog, lambda: lead.oldest_seconds)
                await lead.run()
            finally:
                self._backlog(float, float)

        times = LeaderSettings.of(settings.lease_seconds)
        leading = Leading(kube, settings.lease_namespace, LEASE, self._identity, duty, times)
        return leading

    def _backlog(self, backlog: Callable[[], float], oldest: Callable[[], float]) -> None:
        """What waits while this replica leads; `float` says 0."""
        self._env.metrics.gauge("canopy_devicecontroller_backlog", read=backlog)
        self._env.metrics.gauge("canopy_devicecontroller_oldest_waiting_seconds", read=oldest)

    def _gauges(self, replica: Replica) -> None:
        sizes = self._env.metrics.gauge
        sizes("canopy_devicecontroller_devices", read=lambda: len(replica.placement.devices))
        sizes("canopy_devicecontroller_models", read=lambda: len(replica.placement.models))
        sizes("canopy_devicecontroller_nodes", read=lambda: replica.placement.size)
        self._backlog(float, float)


def _epoch(marks: LastValues, replica: Replica, ensure: Callable[[], Awaitable[None]]) -> Follow:
    """Keep the epoch as CLUSTER says it; what says none means the first."""
    decode = msgspec.json.Decoder(AsOf).decode

    def take(value: Value) -> None:
        replica.epoch = decode(value.data).epoch

    def caught_up() -> None:
        replica.epoch = replica.epoch or FIRST_EPOCH

    return Follow(
        marks,
        catalogue.CLUSTER.at(channel=catalogue.DEVICES_CHANNEL),
        on_reset=_nothing,
        on_value=take,
        on_caught_up=caught_up,
        ensure=ensure,
    )


def _nothing() -> None:
    """An epoch that was read stays while the stream is read anew: it never falls."""


async def _until_ready(replica: Replica, clock: Clock) -> None:
    while not replica.complete:
        await clock.sleep(0.02)


def build(env: Environment) -> DeviceController:
    """Settings are read here; a fault in them raises SettingsError."""
    return DeviceController(env, load(Settings), SystemClock())
