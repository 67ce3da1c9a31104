"""pymodbus, as far as the driver uses it. `modbus_line` loads this module when the first line connects: pymodbus takes
1.5 MB of an edge, which has this driver also where it has no Modbus device.
"""

import contextlib
from typing import Any

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from canopy.mapper.drivers.modbus_config import MAX_TIMEOUT_MS, LineAddress, SerialLine

__all__ = ["CONNECT_SECONDS", "ModbusException", "connected", "made"]
CONNECT_SECONDS = 3.0


def made(address: LineAddress) -> Any:
    """A client, not connected. Bounds of single requests are `Line.ask`'s; pymodbus neither repeats nor reconnects by
    itself."""
    if isinstance(address, SerialLine):
        return _serial(address)
    return AsyncModbusTcpClient(
        address.host, port=address.port, timeout=CONNECT_SECONDS, retries=0, reconnect_delay=0, name=str(address)
    )


async def connected(client: Any) -> bool:
    """Connect; whether it is."""
    with contextlib.suppress(OSError, ModbusException):
        return bool(await client.connect())
    return False


def _serial(address: SerialLine) -> Any:
    return AsyncModbusSerialClient(
        address.port,
        baudrate=address.baud_rate,
        bytesize=address.data_bits,
        parity=address.parity,
        stopbits=address.stop_bits,
        timeout=MAX_TIMEOUT_MS / 1000,
        retries=0,
        reconnect_delay=0,
    )
