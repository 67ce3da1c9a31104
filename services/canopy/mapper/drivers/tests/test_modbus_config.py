"""A Modbus device's manifest, in KubeEdge's words."""

from typing import Any

import pytest

from canopy.mapper.drivers.modbus import blocks
from canopy.mapper.drivers.modbus_config import Point, SerialLine, Table, TcpLine, check, point, station
from canopy.mapper.drivers.registers import Kind, Layout
from canopy.mapper.sdk import BadConfig, Config, DeviceView, PropertyView

TCP = {"communicateMode": "tcp", "ip": "10.0.0.1", "port": "1502", "slaveID": "7"}
COIL = {"register": "CoilRegister", "offset": "3", "limit": 1, "scale": 1, "isSwap": "true", "isRegisterSwap": True}


def device(config: dict[str, Any], *properties: PropertyView) -> DeviceView:
    return DeviceView("default", "light", "modbus", properties, Config(config, "protocol.configData"))


def prop(config: dict[str, Any], kind: str = "int", read_only: bool = True) -> PropertyView:
    return PropertyView("p", kind, read_only, config=Config(config, "visitors.configData", "property p"))


def test_a_tcp_device_is_read_from_text_and_numbers() -> None:
    found = station(device({**TCP, "timeout": 250}))
    assert (found.line, found.slave, found.timeout_seconds) == (TcpLine("10.0.0.1", 1502), 7, 0.25)
    assert station(device({"ip": "a"})).line == TcpLine("a", 502)


def test_a_serial_device_is_read() -> None:
    config = {"serialPort": "/dev/ttyS0", "baudRate": 19200, "dataBits": "8", "parity": "Even", "stopBits": 1}
    assert station(device(config)).line == SerialLine("/dev/ttyS0", 19200, 8, "E", 1)


@pytest.mark.parametrize(
    ("config", "kind", "expected"),
    [
        (COIL, "boolean", Point("p", Table.COIL, 3, 1, Layout(Kind.BOOLEAN, 1, True, True))),
        (
            {"register": "holdingregister", "offset": 2, "scale": "0.1", "min": "0", "max": 9},
            "int",
            Point("p", Table.HOLDING, 2, 1, Layout(Kind.UINT16, 0.1), 0.0, 9.0),
        ),
        (
            {"register": "InputRegister", "offset": 0, "dataType": "int32"},
            "int",
            Point("p", Table.INPUT, 0, 2, Layout(Kind.INT32)),
        ),
        (
            {"register": "InputRegister", "dataType": "float", "offset": 0, "limit": "1", "scale": 0.1},
            "float",
            Point("p", Table.INPUT, 0, 1, Layout(Kind.UINT16, 0.1)),
        ),
        (
            {"register": "InputRegister", "offset": 0, "limit": 2},
            "double",
            Point("p", Table.INPUT, 0, 2, Layout(Kind.FLOAT32)),
        ),
        (
            {"register": "InputRegister", "offset": 0, "limit": 2},
            "float",
            Point("p", Table.INPUT, 0, 2, Layout(Kind.FLOAT32)),
        ),
        (
            {"register": "InputRegister", "offset": 0, "dataType": "int", "limit": 4},
            "int",
            Point("p", Table.INPUT, 0, 4, Layout(Kind.UINT64)),
        ),
        (
            {"register": "DiscreteInputRegister", "offset": 0, "dataType": "int", "limit": 8},
            "int",
            Point("p", Table.DISCRETE_INPUT, 0, 8, Layout(Kind.BITS)),
        ),
        (
            {"register": "HoldingRegister", "offset": 0, "limit": 8},
            "string",
            Point("p", Table.HOLDING, 0, 8, Layout(Kind.STRING)),
        ),
    ],
)
def test_a_property_is_read(config: dict[str, Any], kind: str, expected: Point) -> None:
    assert point(prop(config, kind)) == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"register": "Coil"},
            'register of property p: "Coil" is none of '
            "CoilRegister, DiscreteInputRegister, HoldingRegister, InputRegister",
        ),
        ({"register": None}, "register of property p: is missing"),
        ({"offset": "x"}, 'offset of property p: "x" is not a number'),
        ({"offset": 70000}, "offset of property p: 70000 is not a whole number from 0 to 65535"),
        ({"limit": 0}, "limit of property p: 0 is not a whole number from 1 to 125"),
        ({"limit": 3}, "limit of property p: 3 registers hold no int: it takes 1, 2 or 4"),
        ({"dataType": "float32", "limit": 1}, "limit of property p: 1 registers hold no float32: it takes 2"),
        ({"dataType": "word"}, 'dataType of property p: "word" is none of int, int16, uint16, int32, uint32, '),
        ({"scale": 0}, "scale of property p: 0 would make every value 0; leave it out for 1"),
        ({"dataType": "string", "scale": 2}, "scale of property p: a string has no scale; leave it out"),
        ({"isSwap": "maybe"}, 'isSwap of property p: "maybe" is not true or false'),
        ({"register": "CoilRegister", "dataType": "float"}, "dataType of property p: bits are a boolean or an int"),
    ],
)
def test_a_bad_visitor_is_named_with_what_would_be_right(change: dict[str, Any], says: str) -> None:
    config = {"register": "HoldingRegister", "offset": 0, **change}
    with pytest.raises(BadConfig) as e:
        check(device(TCP, prop(config)))
    assert str(e.value).startswith(f"visitors.configData.{says}")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ip": None}, "ip: is missing"),
        ({"port": 0}, "port: 0 is not a whole number from 1 to 65535"),
        ({"communicateMode": "UDP"}, 'communicateMode: "UDP" is none of TCP, RTU'),
        ({"slaveID": 300}, "slaveID: 300 is not a whole number from 0 to 255"),
    ],
)
def test_a_bad_protocol_is_named_with_what_would_be_right(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadConfig) as e:
        check(device({**TCP, **change}))
    assert str(e.value) == f"protocol.configData.{says}"


def test_an_input_register_cannot_be_read_write() -> None:
    with pytest.raises(BadConfig, match="InputRegister cannot be written, but the property is ReadWrite"):
        point(prop({"register": "InputRegister", "offset": 0}, read_only=False))


def at(name: str, offset: int, count: int = 1, table: Table = Table.HOLDING) -> Point:
    return Point(name, table, offset, count, Layout(Kind.BYTES))


@pytest.mark.parametrize(
    ("points", "alone", "expected"),
    [
        ([at("b", 1), at("a", 0), at("c", 2, 2)], (), ["abc"]),
        ([at("a", 0), at("b", 2)], (), ["a", "b"]),
        ([at("a", 0, 4), at("b", 1), at("c", 4)], (), ["abc"]),
        ([at("a", 0), at("b", 1, table=Table.INPUT)], (), ["a", "b"]),
        ([at("a", 0, 100), at("b", 100, 25), at("c", 125)], (), ["ab", "c"]),
        ([at("a", 0), at("b", 1), at("c", 2)], ("b",), ["a", "c", "b"]),
    ],
)
def test_what_lies_side_by_side_is_read_together(
    points: list[Point], alone: tuple[str, ...], expected: list[str]
) -> None:
    assert ["".join(p.name for p in block) for block in blocks(points, alone)] == expected
