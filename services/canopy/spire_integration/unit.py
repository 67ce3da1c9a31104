"""Builds spire_integration: the only place that knows all of its parts.

Three connections to the hub, each by a key of its own: CLOUD (the process's own: the bus), AUTH (the callout) and SYS
(throwing out, reloading). All are mTLS by the folder CANOPY_IDENTITY_DIR, like everybody's.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from canopy.bus import Bus, Connection
from canopy.bus.audits import measure
from canopy.bus.callout import Callout
from canopy.bus.environment import Environment
from canopy.bus.streams import LastValues
from canopy.bus.system import System
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import ids
from canopy.identity.authority import Authority
from canopy.identity.hubkeys import HubKeys
from canopy.identity.nkey import Nkey
from canopy.identity.sources import FileSource
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import SettingsError, load
from canopy.spire_integration import joining_unit
from canopy.spire_integration.callout import Admission
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.cutting import Cutting
from canopy.spire_integration.ended import Ended
from canopy.spire_integration.keeping import Keeping
from canopy.spire_integration.nodes import Nodes
from canopy.spire_integration.prepare import authority_of, files_of, keys_of
from canopy.spire_integration.revoking import Revoking
from canopy.spire_integration.settings import Settings
from canopy.spire_integration.storing import Storing
from canopy.spire_integration.tailing import Tailing

log = logging.getLogger("canopy.spire_integration")
NAME = SPIRE_INTEGRATION
LOOK_SECONDS = 0.5
FIRST_SECONDS = 0.05
"""Between tries to connect: everybody else waits for this unit, so it is to be there first."""
LAST_STORE_SECONDS = 2.0
JOIN_AGAIN_SECONDS = 5.0
JOINING = "joining"
"""A check of health."""


class SpireIntegration:
    """A runtime Unit; `run` may be called again after a crash. `join_url` is where nodes join, once it has started."""

    name = NAME

    def __init__(self, env: Environment, settings: Settings, keys: HubKeys, authority: Authority, clock: Clock) -> None:
        self._env, self._settings, self._keys, self._authority, self._clock = env, settings, keys, authority, clock
        self._counts, self._audit = Counts.of(env.metrics), AuditLog(NAME, clock)
        measure(self._audit, env.metrics)
        self.join_url = ""

    async def run(self, started: Callable[[], None]) -> None:
        async with AsyncExitStack() as stack:
            bus = self._env.bus(NAME)
            stack.push_async_callback(bus.close)
            storing = self._storing(bus)
            stack.push_async_callback(self._store_the_last, storing)
            auth = await self._connection("callout", self._keys.auth, stack)
            system = await stack.enter_async_context(System(await self._connection("system", self._keys.sys, stack)))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(storing.run())
                tasks.create_task(self._watch(auth))
                nodes = self._begin(bus, system, tasks)
                await nodes.ready.wait()
                await self._serve(bus, nodes, auth, tasks)
                await self._let_join(started)

    def _begin(self, bus: Bus, system: System, tasks: asyncio.TaskGroup) -> Nodes:
        """What works beside the callout."""

        def revoked(node: str, news: bool) -> None:
            cutting.mark(node, news)
            keeping.wake()

        env, clock, td = self._env, self._clock, self._env.shared.trust_domain
        nodes = Nodes(LastValues(bus, "NODES"), revoked, clock, env.shared.stream_replicas)
        cutting = Cutting(system, td, lambda: nodes.revoked, self._audit, self._counts, clock)
        keeping = self._keeping(nodes)
        env.metrics.gauge("canopy_spire_integration_joined", read=lambda: float(len(nodes.known)))
        env.metrics.gauge("canopy_spire_integration_revoked", read=lambda: float(len(nodes.revoked)))
        for work in (nodes.run(), cutting.run(), keeping.run(system), self._tls(bus, system).run()):
            tasks.create_task(work)
        return nodes

    def _tls(self, bus: Bus, system: System) -> Tailing | Ended:
        """Who audits what TLS itself refuses."""
        if self._settings.hub_log:
            return Tailing(Path(self._settings.hub_log), self._audit, self._counts, self._clock)
        return Ended(system, LastValues(bus, "AUDIT"), self._counts, self._clock)

    def _keeping(self, nodes: Nodes) -> Keeping:
        env, s = self._env, self._settings
        return Keeping(
            self._authority,
            env.shared.trust_domain,
            lambda: nodes.revoked,
            self._audit,
            self._counts,
            self._clock,
            env.health,
            seconds=s.keep_seconds,
            files=files_of(s, env.shared, self._authority, self._clock),
            entries_file=Path(s.entries_file) if s.entries_file else None,
        )

    async def _serve(self, bus: Bus, nodes: Nodes, auth: Connection, tasks: asyncio.TaskGroup) -> None:
        """Let in, and answer operators."""
        env, td, counts = self._env, self._env.shared.trust_domain, self._counts
        seed, believed = self._keys.issuer.seed, self._settings.believed
        admission = Admission(seed, td, lambda: nodes.revoked, self._audit, counts, self._clock, believed)
        callout = Callout(auth, admission.answer, self._clock, counts.late.add)
        env.metrics.gauge("canopy_spire_integration_waiting", read=lambda: float(callout.waiting))
        tasks.create_task(callout.run())
        await Revoking(bus, LastValues(bus, "NODES"), nodes, self._audit, self._clock).open()

    async def _let_join(self, started: Callable[[], None]) -> None:
        """Until the end. An endpoint that cannot listen is tried again: letting in at the hub does not depend on it."""
        while True:
            bus = self._env.bus(NAME)
            try:
                async with joining_unit.serve(self._joining(bus)) as served:
                    self.join_url = served.url
                    self._env.health.set(JOINING, True, served.url)
                    started()
                    await served.wait()
            except OSError as e:
                log.warning("nodes cannot join at %s: %s; trying on", self._settings.join_listen, e)
                self._env.health.set(JOINING, False, f"{self._settings.join_listen}: {e}")
            finally:
                await bus.close()
            await self._clock.sleep(JOIN_AGAIN_SECONDS)

    def _joining(self, bus: Bus) -> joining_unit.Parts:
        env, s = self._env, self._settings
        return joining_unit.Parts(
            bus,
            self._authority,
            self._audit.record,
            self._clock,
            env.metrics,
            env.health,
            s,
            env.shared.trust_domain,
            s.keys_dir,
            env.shared.stream_replicas,
        )

    def _storing(self, bus: Bus) -> Storing:
        replicas = self._env.shared.stream_replicas
        return Storing(LastValues(bus, "AUDIT"), self._audit, self._clock, self._counts, replicas)

    async def _store_the_last(self, storing: Storing) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_STORE_SECONDS):
                await storing.store()

    async def _connection(self, what: str, key: Nkey, stack: AsyncExitStack) -> Connection:
        shared = self._env.shared
        connection = await Connection.open(
            shared.nats_url,
            name=f"{NAME}.{what}",
            nkey_seed=key.seed,
            identity=FileSource(Path(shared.identity_dir), clock=self._clock),
            expected=frozenset({ids.hub(shared.trust_domain)}),
            reconnect_seconds=FIRST_SECONDS,
        )
        stack.push_async_callback(connection.close)
        return connection

    async def _watch(self, auth: Connection) -> None:
        """Whether new connections to the hub are answered by this replica, as health."""
        while True:
            away = f"not connected to {self._env.shared.nats_url}"
            self._env.health.set("callout", auth.connected, "" if auth.connected else away)
            await self._clock.sleep(LOOK_SECONDS)


def build(env: Environment) -> SpireIntegration:
    """Settings and keys are read here; a fault in them raises SettingsError."""
    settings, clock = load(Settings), SystemClock()
    if not env.shared.identity_dir:
        raise SettingsError(
            "identity_dir (CANOPY_IDENTITY_DIR) is empty: name the folder with this unit's certificate; every "
            "connection to the hub is TLS"
        )
    return SpireIntegration(env, settings, keys_of(settings), authority_of(settings, env.shared, clock), clock)
