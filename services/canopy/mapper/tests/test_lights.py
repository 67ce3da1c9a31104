"""The engine, the Modbus driver and real lights in a process of their own, killed and started again."""

import asyncio
import contextlib
import json
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable

import pytest

from canopy.contracts.wire import MapperReport, MapperResult
from canopy.mapper.drivers.modbus import ModbusDriver
from canopy.mapper.jobs import Pace, Waits
from canopy.mapper.runner import Runner
from canopy.mapper.sdk import Config, DeviceView, PropertyView
from canopy.runtime.clock import SystemClock
from canopy.testing import light
from canopy.testing.child import free_port

pytestmark = pytest.mark.server
DEADLINE_SECONDS = 20.0
LIGHTS = 50


async def started(port: int) -> tuple[Process, int]:
    command = (sys.executable, "-m", "canopy.testing.light", "--port", str(port), "--lights", str(LIGHTS))
    child = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert child.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        return child, json.loads(await child.stdout.readline())["port"]


async def killed(child: Process) -> None:
    if child.returncode is None:
        child.kill()
    await child.wait()


class Twin:
    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}
        self.states: dict[str, str] = {}
        self.changed = asyncio.Event()

    async def report(self, report: MapperReport) -> MapperResult:
        self.values.setdefault(report.name, {}).update(report.values)
        self.states[report.name] = report.state or self.states.get(report.name, "")
        self.changed.set()
        return MapperResult(outcome="ok")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def view(port: int, slave: int) -> DeviceView:
    registers = {"switch": "CoilRegister", "brightness": "HoldingRegister", "power": "InputRegister"}
    types = {"switch": "boolean", "brightness": "int", "power": "float"}
    properties = tuple(
        PropertyView(
            name,
            types[name],
            name == "power",
            config=Config({"register": register, "offset": "0", "limit": "1", "scale": 0.1 if name == "power" else 1}),
            collect_cycle_ms=100,
        )
        for name, register in registers.items()
    )
    config = Config({"ip": "127.0.0.1", "port": port, "slaveID": slave, "timeout": 300})
    return DeviceView("default", f"light-{slave}", "modbus", properties, config, f"u{slave}", str(port))


@contextlib.asynccontextmanager
async def mapped(port: int) -> AsyncIterator[tuple[Runner, Twin]]:
    twin = Twin()
    pace = Pace(first_poll_within_seconds=0.1, offline=Waits(0.05, 0.5))
    runner = Runner(ModbusDriver(), twin, SystemClock(), random.Random(1), "m1", pace)
    running = asyncio.create_task(runner.run())
    runner.set_devices([view(port, slave) for slave in range(1, LIGHTS + 1)])
    try:
        yield runner, twin
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def test_fifty_lights_on_a_line_follow_a_hand_and_a_wish_and_come_back_after_a_kill() -> None:
    child, port = await started(free_port())
    try:
        async with mapped(port) as (runner, twin):
            await twin.until(lambda: list(twin.states.values()).count("online") == LIGHTS)

            await light.flip("127.0.0.1", port, True, slave=7)
            await twin.until(lambda: twin.values["light-7"] == {"switch": "true", "brightness": "50", "power": "4"})

            runner.desire("default", "light-9", {"switch": "true", "brightness": "75"})
            await twin.until(lambda: twin.values["light-9"] == {"switch": "true", "brightness": "75", "power": "6"})

            await killed(child)
            await twin.until(lambda: list(twin.states.values()).count("offline") == LIGHTS)

            runner.desire("default", "light-9", {"brightness": "25"})
            child, _ = await started(port)
            await twin.until(lambda: list(twin.states.values()).count("online") == LIGHTS)
            await twin.until(lambda: twin.values["light-9"]["brightness"] == "25")
            assert twin.values["light-7"]["switch"] == "false", "it was started again dark"
    finally:
        await killed(child)
