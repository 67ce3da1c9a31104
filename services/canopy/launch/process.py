"""One process of units: everything they share is made here, once; each gets an Environment with a health of its own."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from canopy.bus import Connection, healths, letters, spans
from canopy.bus.environment import Environment
from canopy.bus.trust import LEAF
from canopy.identity import ids
from canopy.identity.sources import FileSource
from canopy.launch.errors import WrongUsage
from canopy.launch.lasting import Lasting
from canopy.launch.units import Row
from canopy.runtime import logs, process_metrics, tlsbuffers
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health, HealthServer, Metrics
from canopy.runtime.letters import DeadLetters
from canopy.runtime.settings import SettingsError, Shared, host_and_port, load
from canopy.runtime.telemetry import Telemetry, current_trace_id
from canopy.runtime.unit import Unit, run_units

log = logging.getLogger("canopy.run")
NO_IDENTITY = (
    "CANOPY_IDENTITY_DIR is empty: name the folder with the certificate by which NATS is to know this process. On a "
    "node edgeidentity writes one for each unit, once `canopy join` has made the machine a node; in the cloud "
    "`python -m canopy.identity.helper` does, or spire_integration where the authority is the built-in one"
)


async def run_process(rows: Sequence[Row]) -> None:
    """Run the units until SIGTERM or SIGINT. Raises WrongUsage for a wrong setting."""
    try:
        shared = load(Shared)
    except SettingsError as e:
        raise WrongUsage(str(e)) from None
    if not shared.identity_dir:
        raise WrongUsage(NO_IDENTITY)
    logs.set_up(shared.log_level, shared.log_format, trace_id=current_trace_id)
    tlsbuffers.spare()
    with _sigterm_cancels(), suppress(asyncio.CancelledError):
        await _Process(rows, shared).run()


@contextmanager
def _sigterm_cancels() -> Iterator[None]:
    """While it still connects; later `run_units` hears them. PID 1 of a container would hear none otherwise."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is not None:
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


@asynccontextmanager
async def _told(environments: Sequence[Environment], units: Sequence[Unit]) -> AsyncIterator[None]:
    """Health, dead letters and finished spans go out while the block runs, the spans once more at its end."""
    pairs, clock = list(zip(environments, units, strict=True)), SystemClock()
    senders = [spans.SpanSender(e.bus(u.name), e.telemetry, clock) for e, u in pairs if spans.sends(u.name)]
    told = [healths.HealthSender(e.bus(u.name), e.health, clock) for e, u in pairs if healths.sends(u.name)]
    posts = [letters.LetterSender(e.bus(u.name), e.letters, clock) for e, u in pairs]
    works = [*(s.run() for s in senders), *(s.run() for s in told), *(s.run() for s in posts)]
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(sender.send() for sender in senders), return_exceptions=True)


class _Process:
    """What the units of this process share, and how long it lives."""

    def __init__(self, rows: Sequence[Row], shared: Shared) -> None:
        self._rows, self._shared = rows, shared
        self._name = "+".join(row.name for row in rows)
        self._healths = tuple(Health(row.name) for row in rows)
        self._metrics, self._lasting = Metrics(), Lasting(self._healths, SystemClock())
        process_metrics.measure(self._metrics, self._lasting.left, self._lasting.late)
        self._letters = {row.name: self._letters_of(row) for row in rows}

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            host, port = host_and_port(self._shared.health_listen)
            health = await stack.enter_async_context(HealthServer(self._healths, self._metrics, host, port))
            self._say(health)
            units = await self._units(stack)
            drain = self._shared.drain_seconds
            await run_units(units, drain_seconds=drain, healths=self._healths, crashed=self._crashed)

    def _say(self, health: HealthServer) -> None:
        log.info("running %s", self._name, extra={"health": f"http://{health.host}:{health.port}"})
        connecting = f"connecting to {self._shared.nats_url} by the identity in {self._shared.identity_dir}"
        for health_of_unit in self._healths:  # whatever else a check says: no unit is ready before it runs
            health_of_unit.set("running", False, connecting)
        if self._shared.insecure_listen:
            log.warning(
                "CANOPY_INSECURE_LISTEN=true: HTTP (health, metrics, the fleet API) may be open beyond loopback, "
                "without TLS. Only for a network of the deployment's own"
            )
            for health_of_unit in self._healths:
                health_of_unit.set("insecure-listen", True, "CANOPY_INSECURE_LISTEN=true")

    async def _units(self, stack: AsyncExitStack) -> list[Unit]:
        """Connect, then build each; a wrong setting of a unit is a WrongUsage too."""
        builds = [row.load() for row in self._rows]  # first: what is not installed is said at once
        connection = await self._connect(await self._before(stack))
        stack.push_async_callback(connection.close)
        self._lasting.connection = connection
        await stack.enter_async_context(_background(self._lasting.run()))
        environments = [
            Environment(self._shared, connection, self._telemetry(row), health, self._metrics, self._letters[row.name])
            for row, health in zip(self._rows, self._healths, strict=True)
        ]
        try:
            units: list[Unit] = [build(env) for build, env in zip(builds, environments, strict=True)]
        except SettingsError as e:
            raise WrongUsage(str(e)) from None
        await stack.enter_async_context(_told(environments, units))
        return units

    def _telemetry(self, row: Row) -> Telemetry:
        """Each unit its own: a span says whose it is, also where units share a process."""
        return Telemetry(row.name, traces_per_second=self._shared.traces_per_second)

    def _letters_of(self, row: Row) -> DeadLetters:
        """Each unit its own, in a file of its own."""
        found = DeadLetters(row.name, file=self._shared.data_dir / f"deadletters-{row.name}.json")
        letters.measure(found, self._metrics)
        return found

    def _crashed(self, unit: str, error: BaseException) -> None:
        self._letters[unit].failed("the unit itself", error, by_place=True)

    async def _before(self, stack: AsyncExitStack) -> str:
        """Enter what must stand before a process of these units connects; the nkey seed to connect with, if any."""
        seed = ""
        for prepared in filter(None, (row.load_before() for row in self._rows)):
            try:
                seed = await stack.enter_async_context(prepared(self._shared)) or seed
            except SettingsError as e:
                raise WrongUsage(str(e)) from None
        return seed

    async def _connect(self, nkey_seed: str) -> Connection:
        shared, edge = self._shared, self._rows[0].plane == "edge"
        server = ids.local(shared.trust_domain, shared.node_name, LEAF) if edge else ids.hub(shared.trust_domain)
        return await Connection.open(
            shared.nats_url,
            name=f"{self._name}@{shared.node_name}" if edge else self._name,
            identity=FileSource(Path(shared.identity_dir)),
            expected=frozenset({server}),
            nkey_seed=nkey_seed,
        )


@asynccontextmanager
async def _background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
