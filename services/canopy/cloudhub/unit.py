"""The composition root of CloudHub: the only place that builds."""

import asyncio
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from canopy.bus.audits import BOUNDS as AUDIT_BOUNDS
from canopy.bus.audits import AuditReader
from canopy.bus.environment import Environment
from canopy.bus.healths import Gathered
from canopy.bus.streams import LastValues
from canopy.cloudhub.adapters import http
from canopy.cloudhub.adapters.access import Access
from canopy.cloudhub.adapters.audit import Book
from canopy.cloudhub.adapters.fleet import BEATS_UNTIL_OFFLINE, Fleet
from canopy.cloudhub.adapters.joining import Desk
from canopy.cloudhub.adapters.letters import Shelf
from canopy.cloudhub.adapters.server import HttpServer
from canopy.cloudhub.adapters.traced import Shown
from canopy.cloudhub.adapters.whys import Whys
from canopy.cloudhub.audit import Audit
from canopy.cloudhub.core import Bounds
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.following import Following
from canopy.cloudhub.handlers import Handlers
from canopy.cloudhub.letters import BOUNDS, Letters
from canopy.cloudhub.live import Live
from canopy.cloudhub.records import Records
from canopy.cloudhub.sessions import Nonces, Sessions
from canopy.cloudhub.settings import Settings
from canopy.cloudhub.spans import Spans
from canopy.cloudhub.traces import Traces
from canopy.cloudhub.view import View
from canopy.cloudhub.watching import Watchers
from canopy.contracts.catalogue import CLOUD_HEALTH
from canopy.contracts.roles import CLOUD_UNITS
from canopy.contracts.wire import Limits
from canopy.kube.api import Kube
from canopy.kube.patient import cluster_if_any, cluster_uid
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.logs import OncePer, once_per
from canopy.runtime.settings import SettingsError, is_loopback, load
from canopy.runtime.telemetry.otlp import Exporter
from canopy.runtime.unit import Unit
from canopy.store.cache import Cache, open_cache

log = logging.getLogger("canopy.cloudhub")
NAME = "cloudhub"
SAY_AGAIN_SECONDS = 30.0
STREAMS_SECONDS = 30.0
NONCE_BYTES = 16


def build(env: Environment) -> Unit:
    """CloudHub with the settings of the environment. Raises SettingsError."""
    settings = load(Settings)
    if not is_loopback(settings.api_listen) and not env.shared.insecure_listen:
        raise SettingsError(
            f"api_listen (CANOPY_CLOUDHUB_API_LISTEN) is {settings.api_listen!r}, not loopback: use 127.0.0.1, or say "
            "CANOPY_INSECURE_LISTEN=true inside a network of the deployment's own"
        )
    return CloudHub(env, settings, SystemClock(), random.Random())  # noqa: S311 - spreads retries, keeps no secret


class CloudHub:
    """The unit. `url` is where its API listens, once it has started. `kube` takes the kubeconfig's place in tests."""

    name = NAME

    def __init__(
        self, env: Environment, settings: Settings, clock: Clock, rng: random.Random, kube: Kube | None = None
    ) -> None:
        self._env, self._settings, self._clock, self._rng, self._kube = env, settings, clock, rng, kube
        self.url = ""
        self._cluster = ""
        self._say = once_per(SAY_AGAIN_SECONDS, clock.monotonic)

    async def run(self, started: Callable[[], None]) -> None:
        """Until cancelled; what is in hand is finished."""
        async with AsyncExitStack() as stack:
            kube = self._kube or await self._connected(stack)
            cache = open_cache(self._settings.cache_url, self._clock.monotonic)
            stack.push_async_callback(cache.close)
            parts = _Parts(self._env, self._settings, self._clock, self._rng, self._say, cache)
            stack.push_async_callback(parts.bus.close)
            await self._ensure(parts)
            works = (parts.following.run(), parts.live.run(), parts.spans.run(), parts.letters.run())
            group = await stack.enter_async_context(
                _running(*works, self._keep_streams(parts), self._find_cluster(kube))
            )
            await _first(group, parts.following.ready.wait())
            await parts.handlers(lambda: self._cluster).open()
            await parts.spans.open()
            await parts.bus.hear(CLOUD_HEALTH, parts.units.heard)
            await parts.letters.open()
            await parts.audit.open()
            server = await stack.enter_async_context(HttpServer(parts.app(kube), self._settings.api_listen))
            stack.callback(parts.watchers.close)
            self.url = server.url
            log.info("the fleet API listens", extra={"url": server.url, "docs": f"{server.url}/docs"})
            started()
            await _first(group, server.wait())

    async def _connected(self, stack: AsyncExitStack) -> Kube | None:
        """The cluster, once its kubeconfig can be read, or the pod's; None if none is named elsewhere."""
        kube = await cluster_if_any(self._settings.kubeconfig)
        if kube is not None:
            stack.push_async_callback(kube.close)
        return kube

    async def _keep_streams(self, parts: "_Parts") -> None:
        """A hub that comes back may have lost its volume: make sure of the streams after each reconnect, and slowly."""
        back = asyncio.Event()

        async def reconnected() -> None:
            back.set()

        self._env.connection.on_reconnect(reconnected)
        try:
            while True:
                await self._clock.wait(back, STREAMS_SECONDS)
                await self._ensure(parts)
        finally:
            self._env.connection.forget(reconnected)

    async def _ensure(self, parts: "_Parts") -> None:
        """All streams, once the hub can make them."""
        replicas = self._env.shared.stream_replicas
        await parts.twins.ensure(self._settings.twins_max_bytes, replicas)
        await parts.sessions.ensure(replicas=replicas)
        await parts.set_aside.ensure(replicas=replicas, **BOUNDS)
        await parts.decided.ensure(replicas=replicas, **AUDIT_BOUNDS)

    async def _find_cluster(self, kube: Kube | None) -> None:
        """Until it is known which cluster this is, hellos name none."""
        if kube is not None:
            self._cluster = await cluster_uid(kube)
        await asyncio.Event().wait()


class _Parts:
    """What one run is made of."""

    def __init__(
        self, env: Environment, settings: Settings, clock: Clock, rng: random.Random, say: OncePer, cache: Cache
    ) -> None:
        self._env, self._settings, self._clock, self._rng, self._say = env, settings, clock, rng, say
        self.bus, self._counts = env.bus(NAME), Counts.of(env.metrics)
        self.twins, self.sessions = LastValues(self.bus, "TWINS"), LastValues(self.bus, "SESSIONS")
        self.set_aside = LastValues(self.bus, "DEADLETTERS")
        self.letters = Letters(self.bus, self.set_aside, clock, env.metrics)
        self.decided = LastValues(self.bus, "AUDIT")
        self.audit = Audit(self.bus, self.decided, AuditReader(self.decided), clock, env.metrics)
        self.units = Gathered(clock, CLOUD_UNITS)
        self.watchers = Watchers(self._counts, settings.watchers, settings.watch_queue)
        view, self._nonces = View(), Nonces()
        self._records = Records(
            self.twins, view, clock, self._counts, say, Bounds(), settings.writes_at_once, env.telemetry, env.letters
        )
        self.live = Live(cache, self._records, clock, self._counts, say, rng, settings.refresh_seconds)
        self.traces = Traces(settings.spans_kept, settings.spans_per_trace)
        self.spans = Spans(self.bus, self.traces, env.telemetry, self._exporter(), clock, env.metrics)
        self.following = Following(self.twins, self.sessions, view, self._nonces, self.watchers, env.health)
        env.metrics.gauge("canopy_cloudhub_nodes", read=lambda: view.counts[0])
        env.metrics.gauge("canopy_cloudhub_records", read=lambda: view.counts[1])
        env.metrics.gauge("canopy_cloudhub_sessions", read=lambda: float(len(self._nonces)))

    def _exporter(self) -> Exporter | None:
        """Where `otlp_endpoint` is set, spans go there too."""
        if not self._env.shared.otlp_endpoint:
            for name in ("sent", "failed"):
                self._env.metrics.counter(f"canopy_cloudhub_otlp_{name}_total")
            return None
        exporter, counted = Exporter(self._env.shared.otlp_endpoint), self._env.metrics.counted
        counted("canopy_cloudhub_otlp_sent_total", lambda: exporter.sent)
        counted("canopy_cloudhub_otlp_failed_total", lambda: exporter.failed)
        return exporter

    def handlers(self, cluster: Callable[[], str]) -> Handlers:
        s = self._settings
        return Handlers(
            self.bus,
            Sessions(self.sessions, self._records, self._clock, _nonce),
            self._records,
            self.live,
            self._nonces,
            self._clock,
            self._counts,
            self._say,
            self._rng,
            cluster=cluster,
            limits=Limits(beat_seconds=s.beat_seconds, reports_per_batch=s.reports_per_batch),
            hellos_at_once=s.hellos_at_once,
            batches_at_once=s.batches_at_once,
        )

    def app(self, kube: Kube | None) -> Any:
        fleet = Fleet(self.live, self._clock, self._settings.beat_seconds)
        access = Access(kube, self._settings.api_token.get_secret_value())
        shown = Shown(fleet, self.traces)
        fresh_ms = round(BEATS_UNTIL_OFFLINE * self._settings.beat_seconds * 1000)
        whys = Whys(fleet, self.live, self.units.units, self._clock, fresh_ms)
        ready = self.following.ready.is_set
        aside, book = Shelf(self.letters), Book(self.audit)
        telemetry = self._env.telemetry
        desk = Desk(self.bus)
        return http.build(fleet, access, self.watchers, self._clock, telemetry, ready, shown, whys, aside, book, desk)


def _nonce() -> str:
    return secrets.token_hex(NONCE_BYTES)


Tasks = list["asyncio.Task[None]"]


@asynccontextmanager
async def _running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[Tasks]:
    """Run beside the block; cancelled at its end."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _first(tasks: Tasks, work: Coroutine[Any, Any, Any]) -> None:
    """Wait for `work`; a task that fails meanwhile fails it."""
    mine = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait([mine, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        mine.cancel()
