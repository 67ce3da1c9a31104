"""One process of units: everything they share is made here, once; each gets an Environment with a health of its own."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress

from canopy.bus import Connection
from canopy.bus.environment import Environment
from canopy.bus.spans import SpanSender, sends
from canopy.launch.errors import WrongUsage
from canopy.launch.units import Row
from canopy.runtime import logs
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health, HealthServer, Metrics
from canopy.runtime.settings import SettingsError, Shared, host_and_port, load
from canopy.runtime.telemetry import Telemetry, current_trace_id
from canopy.runtime.unit import Unit, run_units

log = logging.getLogger("canopy.run")


async def run_process(rows: Sequence[Row]) -> None:
    """Run the units until SIGTERM or SIGINT. Raises WrongUsage for a wrong setting."""
    try:
        shared = load(Shared)
    except SettingsError as e:
        raise WrongUsage(str(e)) from None
    logs.set_up(shared.log_level, shared.log_format, trace_id=current_trace_id)
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
async def _spans_sent(environments: Sequence[Environment], units: Sequence[Unit]) -> AsyncIterator[None]:
    """Finished spans go out while the block runs, and once more at its end."""
    senders = [
        SpanSender(env.bus(unit.name), env.telemetry, SystemClock())
        for env, unit in zip(environments, units, strict=True)
        if sends(unit.name)
    ]
    tasks = [asyncio.create_task(sender.run()) for sender in senders]
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
        self._metrics = Metrics()

    async def run(self) -> None:
        async with AsyncExitStack() as stack:
            host, port = host_and_port(self._shared.health_listen)
            health = await stack.enter_async_context(HealthServer(self._healths, self._metrics, host, port))
            self._say(health)
            units = await self._units(stack)
            await run_units(units, drain_seconds=self._shared.drain_seconds, healths=self._healths)

    def _say(self, health: HealthServer) -> None:
        log.info("running %s", self._name, extra={"health": f"http://{health.host}:{health.port}"})
        if self._shared.insecure_listen:
            log.warning(
                "CANOPY_INSECURE_LISTEN=true: ports may be open beyond loopback, without TLS or identities. Only for a "
                "network of the deployment's own"
            )
            for health_of_unit in self._healths:
                health_of_unit.set("insecure-listen", True, "CANOPY_INSECURE_LISTEN=true")

    async def _units(self, stack: AsyncExitStack) -> list[Unit]:
        """Connect, then build each; a wrong setting of a unit is a WrongUsage too."""
        connection = await self._connect()
        stack.push_async_callback(connection.close)
        environments = [
            Environment(self._shared, connection, self._telemetry(row), health, self._metrics)
            for row, health in zip(self._rows, self._healths, strict=True)
        ]
        try:
            units: list[Unit] = [row.load()(env) for row, env in zip(self._rows, environments, strict=True)]
        except SettingsError as e:
            raise WrongUsage(str(e)) from None
        await stack.enter_async_context(_spans_sent(environments, units))
        return units

    def _telemetry(self, row: Row) -> Telemetry:
        """Each unit its own: a span says whose it is, also where units share a process."""
        return Telemetry(row.name, traces_per_second=self._shared.traces_per_second)

    async def _connect(self) -> Connection:
        shared = self._shared
        return await Connection.open(
            shared.nats_url,
            name=f"{self._name}@{shared.node_name}" if self._rows[0].plane == "edge" else self._name,
            user=shared.nats_user,
            password=shared.nats_password.get_secret_value(),
        )
