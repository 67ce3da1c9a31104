"""The Modbus driver against the real light server."""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from canopy.mapper.drivers.modbus import ModbusDriver
from canopy.mapper.sdk import BadConfig, BadValue, Config, DeviceUnreachable, DeviceView, PropertyFailed, PropertyView
from canopy.testing import light
from canopy.testing.clock import FrozenClock
from canopy.testing.light import LightServer, LightState
from canopy.testing.wait import until

pytestmark = pytest.mark.server


def prop(name: str, kind: str, register: str, offset: int = 0, read_only: bool = False, **more: Any) -> PropertyView:
    config = {"register": register, "offset": offset, "limit": 1, **more}
    return PropertyView(name, kind, read_only, config=Config(config, "visitors.configData", f"property {name}"))


SWITCH = prop("switch", "boolean", "CoilRegister")
BRIGHTNESS = prop("brightness", "int", "HoldingRegister")
POWER = prop("power", "float", "InputRegister", read_only=True, scale="0.1")
WRONG = prop("wrong", "int", "HoldingRegister", offset=1)
ALL = (SWITCH, BRIGHTNESS, POWER)


def device(port: int, slave: int = 1, properties: Sequence[PropertyView] = ALL, timeout_ms: int = 500) -> DeviceView:
    config = {"ip": "127.0.0.1", "port": str(port), "slaveID": str(slave), "timeout": timeout_ms}
    return DeviceView(
        "default", f"light-{slave}", "modbus", tuple(properties), Config(config, "protocol.configData"), f"u{slave}"
    )


@contextlib.asynccontextmanager
async def lights(count: int = 1, port: int = 0) -> AsyncIterator[LightServer]:
    server = LightServer(lights=count, port=port)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def opened(driver: ModbusDriver, view: DeviceView) -> AsyncIterator[DeviceView]:
    await driver.open(view)
    try:
        yield view
    finally:
        await driver.close(view)


async def test_a_light_is_read_and_switched_and_dimmed() -> None:
    driver = ModbusDriver()
    async with lights() as server, opened(driver, device(server.port)) as lamp:
        assert await driver.read(lamp, ALL) == {"switch": False, "brightness": 50, "power": 0.0}
        await driver.write(lamp, SWITCH, "true")
        await driver.write(lamp, BRIGHTNESS, "75")
        assert await driver.read(lamp, ALL) == {"switch": True, "brightness": 75, "power": 6.0}
        assert await light.read("127.0.0.1", server.port) == LightState(True, 75, 6.0)


async def test_a_light_that_is_flipped_by_hand_is_read_so() -> None:
    driver = ModbusDriver()
    async with lights() as server, opened(driver, device(server.port)) as lamp:
        await light.flip("127.0.0.1", server.port, True)
        assert (await driver.read(lamp, (SWITCH,)))["switch"] is True


async def test_a_wrong_register_fails_its_property_and_no_other() -> None:
    driver = ModbusDriver()
    async with lights() as server, opened(driver, device(server.port, properties=(*ALL, WRONG))) as lamp:
        for _ in range(2):
            found = await driver.read(lamp, lamp.properties)
            wrong = found["wrong"]
            assert isinstance(wrong, PropertyFailed)
            assert str(wrong) == "the device answers with exception 2 (illegal address) for HoldingRegister 1"
            assert (found["switch"], found["brightness"], found["power"]) == (False, 50, 0.0)
        with pytest.raises(PropertyFailed, match="illegal address"):
            await driver.write(lamp, WRONG, "1")


async def test_a_value_that_the_light_refuses_is_a_bad_value_and_the_next_good_one_works() -> None:
    driver = ModbusDriver()
    async with lights() as server, opened(driver, device(server.port)) as lamp:
        with pytest.raises(BadValue, match="illegal value"):
            await driver.write(lamp, BRIGHTNESS, "101")
        with pytest.raises(BadValue, match="does not fit into uint16"):
            await driver.write(lamp, BRIGHTNESS, "-1")
        await driver.write(lamp, BRIGHTNESS, "100")
        assert (await driver.read(lamp, (BRIGHTNESS,)))["brightness"] == 100


async def test_the_bounds_of_a_visitor_are_kept() -> None:
    driver, bounded = ModbusDriver(), prop("brightness", "int", "HoldingRegister", min="10", max=20)
    async with lights() as server, opened(driver, device(server.port, properties=(bounded,))) as lamp:
        with pytest.raises(BadValue, match="9 is below the visitor's min 10"):
            await driver.write(lamp, bounded, "9")
        with pytest.raises(BadValue, match="21 is above the visitor's max 20"):
            await driver.write(lamp, bounded, "21")


async def test_fifty_lights_share_one_connection() -> None:
    driver = ModbusDriver()
    async with lights(50) as server, contextlib.AsyncExitStack() as stack:
        lamps = [await stack.enter_async_context(opened(driver, device(server.port, n))) for n in range(1, 51)]
        assert len({driver.line(lamp) for lamp in lamps}) == 1
        await asyncio.gather(*(driver.write(lamp, BRIGHTNESS, str(n)) for n, lamp in enumerate(lamps)))
        found = await asyncio.gather(*(driver.read(lamp, ALL) for lamp in lamps))
        assert [f["brightness"] for f in found] == list(range(50))
        assert (server.connections, server.served) == (1, 1)


async def test_the_last_device_of_a_line_closes_its_connection() -> None:
    driver = ModbusDriver()
    async with lights(2) as server:
        async with opened(driver, device(server.port, 1)) as one:
            async with opened(driver, device(server.port, 2)) as two:
                await driver.read(two, ALL)
            assert (await driver.read(one, ALL))["switch"] is False
            assert server.connections == 1
        await until(lambda: server.connections == 0)


async def test_a_slave_that_is_not_there_is_unreachable_and_the_line_goes_on() -> None:
    driver = ModbusDriver()
    async with (
        lights(1) as server,
        opened(driver, device(server.port, 1)) as here,
        opened(driver, device(server.port, 9)) as away,
    ):
        with pytest.raises(DeviceUnreachable, match=r"slave 9 on 127.0.0.1:.* does not answer its gateway"):
            await driver.read(away, ALL)
        assert (await driver.read(here, ALL))["brightness"] == 50
        assert server.served == 1


async def test_a_line_that_is_down_refuses_at_once_until_its_backoff_is_over_and_then_connects_again() -> None:
    clock = FrozenClock()
    driver = ModbusDriver(clock)
    async with lights() as server:
        port = server.port
        lamp = device(port)
        await driver.open(lamp)
        await driver.read(lamp, ALL)
    with pytest.raises(DeviceUnreachable):
        await driver.read(lamp, ALL)
    with pytest.raises(DeviceUnreachable):
        await driver.read(lamp, ALL)
    await driver.close(lamp)
    async with lights(port=port) as server:
        await driver.open(lamp)
        with pytest.raises(DeviceUnreachable, match="is down: it cannot be connected"):
            await driver.read(lamp, ALL)
        assert server.served == 0, "a device that is opened anew does not go round the backoff"
        await clock.advance(5.0)
        assert (await driver.read(lamp, ALL))["brightness"] == 50
        await driver.close(lamp)


async def test_a_server_that_never_answers_is_given_up_in_time_and_reconnected_after_three_times() -> None:
    silent = Silent()
    server = await asyncio.start_server(silent.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    driver = ModbusDriver()
    async with opened(driver, device(port, timeout_ms=20)) as lamp:
        for _ in range(4):
            with pytest.raises(DeviceUnreachable, match=r"no answer on 127.0.0.1:\d+ within 0.02 s"):
                await driver.read(lamp, ALL)
        await until(lambda: silent.connections == 2)
    server.close()


class Silent:
    """A server that hears and says nothing."""

    def __init__(self) -> None:
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await reader.read(1024):
            pass
        writer.close()


async def test_a_bad_visitor_is_said_when_the_device_is_opened() -> None:
    with pytest.raises(BadConfig, match=r'register of property switch: "Coil" is none of CoilRegister, '):
        await ModbusDriver().open(device(1, properties=(prop("switch", "boolean", "Coil"),)))


@pytest.mark.skipif(importlib.util.find_spec("serial") is not None, reason="pyserial is installed here")
async def test_a_serial_device_without_pyserial_is_said_when_it_is_opened() -> None:
    config = Config({"serialPort": "/dev/ttyS0"}, "protocol.configData")
    with pytest.raises(BadConfig, match=r"communicateMode: RTU needs the package pyserial"):
        await ModbusDriver().open(DeviceView("default", "meter", "modbus", (), config))
