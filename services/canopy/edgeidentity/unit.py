"""Builds edgeidentity: the only place that knows all its parts. Its files stand already (`prepare`)."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from canopy.bus import AskFailed, Bus, Connection, audits
from canopy.bus.comings import Comings
from canopy.bus.environment import Environment
from canopy.bus.reader import SetReader
from canopy.bus.system import System
from canopy.bus.trust import SYSTEM
from canopy.contracts import catalogue as c
from canopy.contracts.roles import EDGEIDENTITY
from canopy.contracts.wire import Nothing
from canopy.edgeidentity.conf import Config
from canopy.edgeidentity.core import Connected, Invited, Lost, Renewed, gate
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.front_parts import Doors, Whereabouts
from canopy.edgeidentity.lasting import Lasting
from canopy.edgeidentity.leafward import Leafward, Refused
from canopy.edgeidentity.memory import Memory
from canopy.edgeidentity.prepare import authority
from canopy.edgeidentity.provision_book import Book
from canopy.edgeidentity.provision_ends import Ends
from canopy.edgeidentity.roster import Roster
from canopy.edgeidentity.seen import Seen
from canopy.edgeidentity.settings import Settings
from canopy.edgeidentity.slots import LEAF
from canopy.edgeidentity.watch import FileWatch
from canopy.identity import ids
from canopy.identity.sources import FileSource
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import load

NAME = EDGEIDENTITY
TWIN_SECONDS = 1.0
ENDS_SECONDS = 2.0
"""Between looks at certificates of devices that have ended."""
EDGE_ACCOUNT = "EDGE"
"""The leaf's account of units, devices and apps."""
TELL_SECONDS = 5.0


class Leaf:
    """The leaf, asked over the system connection."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def reload(self, run: str) -> None:
        """Raises Refused, AskFailed."""
        if why := await self._system.reload(run):
            raise Refused(why)

    async def close(self, user: str) -> int:
        """Close every connection of a user; how many there were. Raises AskFailed."""
        found = await self._system.connections(user)
        return sum([await self._system.kick(one.server, one.cid) for one in found])

    async def read_at(self, run: str) -> str:
        """Raises AskFailed."""
        return await self._system.read_at(run)


class EdgeIdentity:
    """The unit. `run` may be called again after it ended."""

    name = NAME

    def __init__(self, env: Environment, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self._env, self._settings, self._clock, self._rng = env, settings, clock, rng
        self.folders = Folders.of(settings, env.shared.data_dir)
        self._reloads = env.metrics.counter("canopy_edgeidentity_reloads_total")
        self.audit = AuditLog(NAME, clock, env.shared.data_dir / f"audit-{NAME}.jsonl")
        audits.measure(self.audit, env.metrics)

    async def run(self, started: Callable[[], None]) -> None:
        """Until cancelled."""
        env = self._env
        bus = env.bus(NAME)
        try:
            async with self._leaf() as (leaf, connection):
                await bus.open()
                await self._work(bus, leaf, connection, started)
        finally:
            await bus.close()

    @asynccontextmanager
    async def _leaf(self) -> AsyncIterator[tuple[Leaf, Connection]]:
        """The system connection, this unit's own also where it shares a process."""
        shared = self._env.shared
        connection = await Connection.open(
            shared.nats_url,
            name=f"{NAME}-system@{shared.node_name}",
            identity=FileSource(self.folders.unit(SYSTEM)),
            expected=frozenset({ids.local(shared.trust_domain, shared.node_name, LEAF)}),
        )
        try:
            async with System(connection) as system:
                yield Leaf(system), connection
        finally:
            await connection.close()

    async def _tell(self, lasting: Lasting) -> None:
        while True:
            await self._clock.sleep(TELL_SECONDS)
            lasting.tell()

    async def _work(self, bus: Bus, leaf: Leaf, connection: Connection, started: Callable[[], None]) -> None:
        env, settings, clock = self._env, self._settings, self._clock
        td, node = env.shared.trust_domain, env.shared.node_name
        memory = Memory(self.folders.gate)
        config = Config.of(settings, self.folders, td, node)
        leafward = Leafward(leaf, lambda: _taken(bus), config, memory, clock, self._rng, env.health, self._reloads)
        env.metrics.gauge("canopy_edgeidentity_gate_open", read=lambda: float(not gate(leafward.state)))
        env.metrics.gauge("canopy_edgeidentity_guests", read=lambda: float(len(leafward.guests)))
        here = Whereabouts(td, node, self.folders, settings)
        book = Book(td, node, here.book)
        roster = Roster(
            memory,
            book.identity,
            lambda guests: leafward.put(Invited(guests)),
            lambda: here.apps(book, clock.now_ms()),
        )
        own = authority(env.shared, settings, self.folders, clock)
        doors = Doors(here, own, roster, book, self.audit, clock, env.health, env.metrics, leafward.settled)
        lasting = Lasting(self.folders, clock, env.health, env.metrics)
        reading = SetReader(
            bus,
            c.DEVICES_CHANNEL,
            roster.take,
            seconds=settings.read_seconds,
            clock=clock,
            rng=self._rng,
            as_of=lambda: roster.as_of,
        )

        def renewed() -> None:
            leafward.put(Renewed())
            lasting.read()

        watch = FileWatch(self.folders.read_by_the_leaf, renewed, clock, settings.look_seconds)
        seen = Seen(self.folders, self.audit, lambda: gate(leafward.state))
        rotating = FileWatch(seen.paths, seen.look, clock, settings.look_seconds)
        comings = Comings(connection, EDGE_ACCOUNT, seen.came, seen.refused)
        roster.look()
        with _heard(connection, leafward):
            await bus.hear(c.META_CHANGED, reading.changed, channel=c.DEVICES_CHANNEL)
            async with comings, doors.opened(), asyncio.TaskGroup() as tasks:
                tasks.create_task(rotating.run())
                tasks.create_task(Ends(leaf, book, self.audit, clock, ENDS_SECONDS, roster.look).run())
                if settings.leaf_log != Path():
                    tasks.create_task(seen.follow(settings.leaf_log, clock))
                tasks.create_task(leafward.run())
                tasks.create_task(leafward.watch())
                tasks.create_task(audits.AuditSender(bus, self.audit, clock).run())
                tasks.create_task(watch.run())
                tasks.create_task(reading.run())
                tasks.create_task(self._tell(lasting))
                started()


@contextmanager
def _heard(connection: Connection, leafward: Leafward) -> Iterator[None]:
    """Leafward hears of each run of the leaf, and of its end."""

    async def back() -> None:
        leafward.put(Connected(connection.server_run))

    def lost() -> None:
        leafward.put(Lost())

    connection.on_reconnect(back)
    connection.on_lost(lost)
    try:
        if connection.connected:
            leafward.put(Connected(connection.server_run))
        yield
    finally:
        connection.forget(back)
        connection.forget_lost(lost)


async def _taken(bus: Bus) -> str:
    """In which run of the leaf DeviceTwin has its position; "" in none, or if it does not say."""
    try:
        answer = await bus.ask(c.TWIN_POSITION, Nothing(), timeout=TWIN_SECONDS)
    except AskFailed:
        return ""
    return answer.server_run if answer.ready else ""


def build(env: Environment) -> EdgeIdentity:
    """Read the settings and make the unit; nothing is opened before `run`. Raises SettingsError."""
    return EdgeIdentity(env, load(Settings), SystemClock(), random.Random())  # noqa: S311 - spreads retries
