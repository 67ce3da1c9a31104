"""The Modbus driver: TCP, and RTU on a serial port. Configured in KubeEdge's words (`modbus_config`).

Properties that lie side by side are read with one request. A register that a device does not have fails that
property; a device that does not answer is unreachable; a line that is down is everybody's on it.
"""

import importlib.util
import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from canopy.mapper.drivers.modbus_config import Point, Station, Table, check, station
from canopy.mapper.drivers.modbus_line import Line, Lines
from canopy.mapper.drivers.registers import decode, encode
from canopy.mapper.sdk import (
    BadValue,
    DeviceUnreachable,
    DeviceView,
    Driver,
    PropertyFailed,
    PropertyView,
    Reading,
    Value,
)
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock, SystemClock

BACKOFF_FIRST_SECONDS = 0.2
BACKOFF_MOST_SECONDS = 5.0

_READS = {
    Table.COIL: "read_coils",
    Table.DISCRETE_INPUT: "read_discrete_inputs",
    Table.HOLDING: "read_holding_registers",
    Table.INPUT: "read_input_registers",
}


class Refusal(IntEnum):
    """Exception codes of the Modbus application protocol. Ours, so that pymodbus need not be loaded for their names."""

    ILLEGAL_FUNCTION = 1
    ILLEGAL_ADDRESS = 2
    ILLEGAL_VALUE = 3
    DEVICE_FAILURE = 4
    ACKNOWLEDGE = 5
    DEVICE_BUSY = 6
    NEGATIVE_ACKNOWLEDGE = 7
    MEMORY_PARITY_ERROR = 8
    GATEWAY_PATH_UNAVAILABLE = 10
    GATEWAY_NO_RESPONSE = 11


_NOBODY = frozenset({Refusal.GATEWAY_PATH_UNAVAILABLE, Refusal.GATEWAY_NO_RESPONSE})


class ModbusError(Exception):
    """The device answered with an exception code."""

    def __init__(self, code: int) -> None:
        name = Refusal(code).name.replace("_", " ").lower() if code in set(Refusal) else "unknown"
        super().__init__(f"the device answers with exception {code} ({name})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Open:
    """A device that is open. `alone` holds the properties that spoilt a common read: they are read by themselves."""

    station: Station
    points: dict[str, Point]
    line: Line
    alone: set[str] = field(default_factory=set)


class ModbusDriver(Driver):
    """One instance for all Modbus devices of a mapper."""

    protocol: ClassVar[str] = "modbus"

    def __init__(self, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        if importlib.util.find_spec("pymodbus") is None:  # it is loaded later, but missed at the start
            raise ModuleNotFoundError("the package pymodbus is not installed here")
        chance = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._lines = Lines(
            clock or SystemClock(), lambda: Backoff(BACKOFF_FIRST_SECONDS, BACKOFF_MOST_SECONDS, chance)
        )
        self._open: dict[tuple[str, str], Open] = {}
        # What it says at each failed request is said once, and better, by the mapper.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)

    def line(self, device: DeviceView) -> str:
        return str(station(device).line)

    async def open(self, device: DeviceView) -> None:
        found, points = check(device)
        self._open[device.key] = Open(found, points, self._lines.take(found.line))

    async def close(self, device: DeviceView) -> None:
        self._lines.release(self._open.pop(device.key).line)

    async def read(self, device: DeviceView, properties: Sequence[PropertyView]) -> Reading:
        opened = self._open[device.key]
        found: dict[str, Value | PropertyFailed] = {}
        for block in blocks((opened.points[p.name] for p in properties), opened.alone):
            found.update(await self._read_block(opened, block))
        return found

    async def write(self, device: DeviceView, property: PropertyView, value: str) -> None:
        opened = self._open[device.key]
        point = opened.points[property.name]
        _check_range(point, value)
        try:
            await _write(opened, point, encode(point.layout, point.count, value))
        except ModbusError as e:
            if e.code == Refusal.ILLEGAL_VALUE:
                raise BadValue(f"the device refuses it: {e}") from None
            raise PropertyFailed(str(e)) from None

    async def _read_block(self, opened: Open, block: Sequence[Point]) -> Reading:
        try:
            words = await _read(opened, block[0].table, block[0].offset, max(p.end for p in block) - block[0].offset)
        except ModbusError as e:
            if len(block) == 1:
                opened.alone.add(block[0].name)
                return {block[0].name: PropertyFailed(f"{e} for {block[0].table.word} {block[0].offset}")}
            return await self._read_apart(opened, block)
        start = block[0].offset
        return {p.name: _decoded(p, words[p.offset - start : p.end - start]) for p in block}

    async def _read_apart(self, opened: Open, block: Sequence[Point]) -> Reading:
        found: dict[str, Value | PropertyFailed] = {}
        for point in block:
            found.update(await self._read_block(opened, (point,)))
        return found


def blocks(points: Iterable[Point], alone: Iterable[str] = ()) -> list[list[Point]]:
    """The requests to make: points of one table that touch or overlap together, within what one request may ask."""
    single = set(alone)
    found: list[list[Point]] = []
    for point in sorted(points, key=lambda p: (p.table.word, p.name in single, p.offset, p.end)):
        if found and point.name not in single and _fits(found[-1], point):
            found[-1].append(point)
        else:
            found.append([point])
    return found


def _fits(block: Sequence[Point], point: Point) -> bool:
    start, end = block[0].offset, max(p.end for p in block)
    together = max(end, point.end) - start
    return point.table is block[0].table and point.offset <= end and together <= point.table.most_at_once


def _decoded(point: Point, words: Sequence[int]) -> Value | PropertyFailed:
    try:
        return decode(point.layout, words)
    except PropertyFailed as e:
        return e


def _check_range(point: Point, value: str) -> None:
    """min and max of the visitor; the DeviceModel's own have been checked before."""
    if point.minimum is not None and float(value) < point.minimum:
        raise BadValue(f"{value} is below the visitor's min {point.minimum:g}")
    if point.maximum is not None and float(value) > point.maximum:
        raise BadValue(f"{value} is above the visitor's max {point.maximum:g}")


async def _read(opened: Open, table: Table, offset: int, count: int) -> list[int]:
    def ask(client: Any) -> Any:
        return getattr(client, _READS[table])(offset, count=count, device_id=opened.station.slave)

    answer = await _ask(opened, ask)
    words: list[int] = (answer.bits if table.bits else answer.registers)[:count]
    if len(words) != count:
        raise DeviceUnreachable(f"asked for {count} of {table.word}, got {len(words)}")
    return words


async def _write(opened: Open, point: Point, words: list[int]) -> None:
    def ask(client: Any) -> Any:
        slave = opened.station.slave
        if point.table.bits and len(words) == 1:
            return client.write_coil(point.offset, bool(words[0]), device_id=slave)
        if point.table.bits:
            return client.write_coils(point.offset, [bool(w) for w in words], device_id=slave)
        if len(words) == 1:
            return client.write_register(point.offset, words[0], device_id=slave)
        return client.write_registers(point.offset, words, device_id=slave)

    await _ask(opened, ask)


async def _ask(opened: Open, ask: Any) -> Any:
    answer = await opened.line.ask(ask, opened.station.timeout_seconds)
    if answer.isError():
        if answer.exception_code in _NOBODY:
            raise DeviceUnreachable(
                f"slave {opened.station.slave} on {opened.station.line} does not answer its gateway"
            )
        raise ModbusError(answer.exception_code)
    return answer
