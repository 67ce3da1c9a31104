"""What a manifest says of a Modbus device, in KubeEdge's words, checked. Pure; called by the driver.

Numbers may be text, and words are taken in any case. Every fault is a BadConfig that names the field.
"""

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from canopy.mapper.drivers.registers import Kind, Layout
from canopy.mapper.sdk import Config, DeviceView, PropertyView

DEFAULT_TIMEOUT_MS = 1000
MAX_TIMEOUT_MS = 10_000


class Table(Enum):
    """Where a value lives: what it is called, whether it holds bits, whether it can be written, how many at once."""

    COIL = ("CoilRegister", True, True, 2000)
    DISCRETE_INPUT = ("DiscreteInputRegister", True, False, 2000)
    HOLDING = ("HoldingRegister", False, True, 125)
    INPUT = ("InputRegister", False, False, 125)

    def __init__(self, word: str, bits: bool, writable: bool, most_at_once: int) -> None:
        self.word = word
        self.bits = bits
        self.writable = writable
        self.most_at_once = most_at_once


@dataclass(frozen=True, slots=True)
class TcpLine:
    """A Modbus TCP device or gateway."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A serial port with Modbus RTU on it; all its devices must say the same settings."""

    port: str
    baud_rate: int
    data_bits: int
    parity: str
    stop_bits: int

    def __str__(self) -> str:
        return self.port


LineAddress: TypeAlias = TcpLine | SerialLine


@dataclass(frozen=True, slots=True)
class Station:
    """A device on its line."""

    line: LineAddress
    slave: int
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """Where one property lives (`offset` from 0, `count` registers or bits) and how its value is laid out."""

    name: str
    table: Table
    offset: int
    count: int
    layout: Layout
    minimum: float | None = None
    maximum: float | None = None

    @property
    def end(self) -> int:
        return self.offset + self.count


_TABLES = {table.word: table for table in Table}
_PARITIES = {"none": "N", "even": "E", "odd": "O", "n": "N", "e": "E", "o": "O"}
_MODES = {"TCP": False, "RTU": True}
# 'int' is unsigned and as wide as `limit` says: so KubeEdge's Modbus mapper reads it. Signed ones name their width.
_WIDTHS = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "float32": 2, "int64": 4, "uint64": 4, "float64": 4}
_BY_WIDTH = {1: Kind.UINT16, 2: Kind.UINT32, 4: Kind.UINT64}
_SAME = {"float": "float32", "double": "float64", "bool": "boolean"}
# float and double go by their registers, too: what one register holds can only be a scaled int
_FLOATS = {1: "int", 2: "float32", 4: "float64"}
_TYPES = ("int", *_WIDTHS, "float", "double", "boolean", "string", "bytes")


def station(device: DeviceView) -> Station:
    """The device's line and its number on it."""
    config = device.config
    mode = "RTU" if "serialPort" in config and "ip" not in config else "TCP"
    line = _serial(config) if config.choice("communicateMode", _MODES, mode) else _tcp(config)
    timeout_ms = config.integer("timeout", DEFAULT_TIMEOUT_MS, least=10, most=MAX_TIMEOUT_MS)
    return Station(line, config.integer("slaveID", 1, most=255), timeout_ms / 1000)


def point(prop: PropertyView) -> Point:
    """Where a property lives."""
    config = prop.config
    table = config.choice("register", _TABLES)
    word = _type(prop, table)
    count = config.integer("limit", 1 if table.bits else _WIDTHS.get(word, 1), least=1, most=table.most_at_once)
    offset = config.integer("offset", least=0, most=65536 - count)
    if not table.writable and not prop.read_only:
        raise config.bad("register", f"{table.word} cannot be written, but the property is ReadWrite")
    return Point(
        prop.name,
        table,
        offset,
        count,
        Layout(
            _kind(config, word, count, table),
            _scale(config, word),
            config.flag("isSwap"),
            config.flag("isRegisterSwap"),
        ),
        config.number("min") if "min" in config else None,
        config.number("max") if "max" in config else None,
    )


def _tcp(config: Config) -> TcpLine:
    return TcpLine(config.text("ip"), config.integer("port", 502, least=1, most=65535))


def _serial(config: Config) -> SerialLine:
    return SerialLine(
        config.text("serialPort"),
        config.integer("baudRate", 9600, least=50, most=4_000_000),
        config.integer("dataBits", 8, least=7, most=8),
        config.choice("parity", _PARITIES, "none"),
        config.integer("stopBits", 1, least=1, most=2),
    )


def _type(prop: PropertyView, table: Table) -> str:
    """dataType, or what the property's type means here."""
    word = prop.config.choice("dataType", {t: t for t in (*_TYPES, *_SAME)}, "boolean" if table.bits else prop.type)
    if word in ("float", "double") and "limit" in prop.config:
        word = _FLOATS.get(prop.config.integer("limit"), word)
    return _SAME.get(word, word)


def _kind(config: Config, word: str, count: int, table: Table) -> Kind:
    if table.bits:
        return _bits(config, word, count)
    if word == "int":
        return _by_width(config, count)
    if count != _WIDTHS.get(word, count):
        raise config.bad("limit", f"{count} registers hold no {word}: it takes {_WIDTHS[word]}")
    if word == "boolean" and count != 1:
        raise config.bad("limit", f"{count} registers hold no boolean: it takes 1")
    return Kind(word)


def _by_width(config: Config, count: int) -> Kind:
    if count not in _BY_WIDTH:
        raise config.bad("limit", f"{count} registers hold no int: it takes 1, 2 or 4")
    return _BY_WIDTH[count]


def _bits(config: Config, word: str, count: int) -> Kind:
    if word not in ("boolean", "int"):
        raise config.bad("dataType", f"bits are a boolean or an int, not {word}")
    if count > 1 and word == "boolean":
        raise config.bad("limit", f"{count} bits are no boolean: say 1, or dataType int")
    if count > 64:
        raise config.bad("limit", f"{count} bits are more than an int holds: 64")
    return Kind.BOOLEAN if word == "boolean" else Kind.BITS


def _scale(config: Config, word: str) -> float:
    scale = config.number("scale", 1.0)
    if scale == 0:
        raise config.bad("scale", "0 would make every value 0; leave it out for 1")
    if scale != 1 and word in ("boolean", "string", "bytes"):
        raise config.bad("scale", f"a {word} has no scale; leave it out")
    return scale


def check(device: DeviceView) -> tuple[Station, dict[str, Point]]:
    """Everything about the device, or BadConfig."""
    return station(device), {p.name: point(p) for p in device.properties}
