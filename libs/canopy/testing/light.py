"""A Modbus light: a real Modbus TCP server, in a process of its own for the demo and the tests.

`python -m canopy.testing.light --port 0` prints `{"ready": true, "port": N}` and serves until SIGTERM. Slave 1 (with
`--lights N`: each of 1 to N) has coil 0 = switch, holding register 0 = brightness (0 to 100 %), input register 0 =
power in 0.1 W (8 W at full brightness, 0 when off). `flip` and `read` are a hand and an eye at the device.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

FULL_POWER_DECIWATTS = 80
MAX_LIGHTS = 247
TIMEOUT_SECONDS = 3.0
READ_INPUT, WRITE_COIL, WRITE_REGISTER, WRITE_COILS, WRITE_REGISTERS = 4, 5, 6, 15, 16
READS = frozenset({1, 2, 3, READ_INPUT})


@dataclass(frozen=True, slots=True)
class LightState:
    """What a light is like. `power_watts` follows from the other two."""

    on: bool
    brightness: int
    power_watts: float


class Light:
    """One light behind its registers: pymodbus holds them, this says what they mean."""

    def __init__(self, slave: int, on: bool = False, brightness: int = 50) -> None:
        self.slave = slave
        self.on = on
        self.brightness = brightness

    @property
    def power_deciwatts(self) -> int:
        return round(FULL_POWER_DECIWATTS * self.brightness / 100) if self.on else 0

    def device(self) -> SimDevice:
        """The light as pymodbus serves it."""
        bits = [SimData(0, values=[self.on, *[False] * 15], datatype=DataType.BITS)]
        no_bits = [SimData(0, values=[False] * 16, datatype=DataType.BITS)]
        brightness = [SimData(0, values=self.brightness, datatype=DataType.REGISTERS)]
        power = [SimData(0, values=0, datatype=DataType.REGISTERS)]
        return SimDevice(self.slave, simdata=(bits, no_bits, brightness, power), action=self._accessed)

    async def _accessed(
        self, function: int, _start: int, address: int, count: int, registers: list[int], values: Any
    ) -> ExcCodes | None:
        """Before each access. For bits `count` is in registers, so that only the address tells."""
        if function not in READS | {WRITE_COIL, WRITE_COILS, WRITE_REGISTER, WRITE_REGISTERS}:
            return ExcCodes.ILLEGAL_FUNCTION
        if address != 0 or function == 2:
            return ExcCodes.ILLEGAL_ADDRESS
        if function == READ_INPUT:
            registers[0] = self.power_deciwatts
        return self._written(function, values) if values else None

    def _written(self, function: int, values: list[Any]) -> ExcCodes | None:
        if len(values) != 1:
            return ExcCodes.ILLEGAL_ADDRESS
        if function in (WRITE_COIL, WRITE_COILS):
            self.on = bool(values[0])
            return None
        if not 0 <= values[0] <= 100:
            return ExcCodes.ILLEGAL_VALUE
        self.brightness = values[0]
        return None


def _nobody() -> SimDevice:
    """Every other slave: the gateway says that nobody answers."""

    async def silence(*_: Any) -> ExcCodes:
        return ExcCodes.GATEWAY_NO_RESPONSE

    bits = SimData(0, values=[False] * 16, datatype=DataType.BITS)
    word = SimData(0, values=0, datatype=DataType.REGISTERS)
    return SimDevice(0, simdata=([bits], [bits], [word], [word]), action=silence)


class LightServer:
    """Lights on one Modbus TCP port. `connections` counts those that are open now, `served` all that ever were."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, lights: int = 1) -> None:
        if not 1 <= lights <= MAX_LIGHTS:
            raise ValueError(f"{lights} lights: a line has 1 to {MAX_LIGHTS}")
        self.lights = {slave: Light(slave) for slave in range(1, lights + 1)}
        self.host = host
        self.port = port
        self.connections = 0
        self.served = 0
        self._server: Any = None

    async def start(self) -> None:
        """Listen; `port` then says where."""
        devices = [_nobody(), *(light.device() for light in self.lights.values())]
        self._server = ModbusTcpServer(devices, address=(self.host, self.port), trace_connect=self._connection)
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection."""
        await self._server.shutdown()

    def _connection(self, made: bool) -> None:
        self.connections += 1 if made else -1
        self.served += made


@contextlib.asynccontextmanager
async def _client(host: str, port: int) -> AsyncIterator[Any]:
    client = AsyncModbusTcpClient(host, port=port, timeout=TIMEOUT_SECONDS, reconnect_delay=0)
    if not await client.connect():
        raise ConnectionError(f"no light at {host}:{port}")
    try:
        yield client
    finally:
        client.close()


def _checked(answer: Any) -> Any:
    if answer.isError():
        raise ConnectionError(f"the light answers {answer}")
    return answer


async def flip(host: str, port: int, on: bool, slave: int = 1) -> None:
    """Turn the switch by hand: another Modbus client writes the coil. Raises ConnectionError."""
    async with _client(host, port) as client:
        _checked(await client.write_coil(0, on, device_id=slave))


async def read(host: str, port: int, slave: int = 1) -> LightState:
    """Look at the light. Raises ConnectionError."""
    async with _client(host, port) as client:
        on = _checked(await client.read_coils(0, device_id=slave)).bits[0]
        brightness = _checked(await client.read_holding_registers(0, device_id=slave)).registers[0]
        power = _checked(await client.read_input_registers(0, device_id=slave)).registers[0]
        return LightState(on, brightness, power / 10)


async def serve(host: str, port: int, lights: int, until_eof: bool) -> None:
    """Serve until SIGTERM or SIGINT (or, if asked for, until the standard input ends)."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = LightServer(host, port, lights)
    await server.start()
    if until_eof:
        # a thread, since not every kind of standard input can be polled
        threading.Thread(target=_wait_for_eof, args=(loop, stop), daemon=True).start()
    sys.stdout.write(json.dumps({"ready": True, "port": server.port}) + "\n")
    sys.stdout.flush()
    await stop.wait()
    await server.stop()


def _wait_for_eof(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="A simulated Modbus TCP light.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0: a free one, said when ready")
    parser.add_argument(
        "--lights", type=int, default=1, help=f"lights on the line, slaves 1 to N (at most {MAX_LIGHTS})"
    )
    parser.add_argument("--until-eof", action="store_true", help="end when the standard input ends")
    args = parser.parse_args()
    if not 1 <= args.lights <= MAX_LIGHTS:
        parser.error(f"--lights {args.lights}: give 1 to {MAX_LIGHTS}")
    try:
        asyncio.run(serve(args.host, args.port, args.lights, args.until_eof))
    except RuntimeError as e:
        parser.exit(1, f"{args.host}:{args.port}: {e}\n")


if __name__ == "__main__":
    main()
