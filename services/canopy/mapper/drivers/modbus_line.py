"""Lines: one connection each, shared by all devices on it, one request at a time. Owned by the Modbus driver.

pymodbus connects and frames; when to connect again is decided here, because many devices ask for one line.
"""

import asyncio
import importlib.util
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypeAlias

from canopy.mapper.drivers.modbus_config import LineAddress, SerialLine
from canopy.mapper.sdk import BadConfig, DeviceUnreachable
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock

Ask: TypeAlias = Callable[[Any], Awaitable[Any]]
"""One request, made with pymodbus' client."""

SILENT_BEFORE_RECONNECT = 3
"""Requests in a row that nobody on the line answers, before the connection itself is held to be dead."""
_CLIENT = "canopy.mapper.drivers.modbus_client"
"""Loaded with the first connection, in a thread: what else this process does need not wait."""


class Line:
    """One line. Connects when it is used; after a failure to connect it refuses at once until its backoff is over."""

    def __init__(self, address: LineAddress, clock: Clock, backoff: Backoff) -> None:
        self.address = address
        self.users = 0
        self._clock = clock
        self._backoff = backoff
        self._not_before = 0.0
        self._why = ""
        self._silent = 0
        self._client: Any = None
        self._library: Any = None
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, ask: Ask, timeout_seconds: float) -> Any:
        """The answer, which may be a Modbus exception response. Raises DeviceUnreachable."""
        async with self._one_at_a_time:
            await self._connect()
            try:
                async with asyncio.timeout(timeout_seconds):
                    answer = await ask(self._client)
            except (TimeoutError, OSError, self._library.ModbusException) as e:
                raise self._failed(e, timeout_seconds) from None
            self._silent = 0
            return answer

    def disconnect(self) -> None:
        """Close the connection; the next request connects again."""
        if self._client is not None:
            self._client.close()
        self._client, self._silent = None, 0

    def backs_off(self) -> bool:
        """Whether the last try to connect failed a short while ago."""
        return self._clock.monotonic() < self._not_before

    async def _connect(self) -> None:
        if self._client is not None and self._client.connected:
            return
        if self.backs_off():
            raise DeviceUnreachable(f"the line {self.address} is down: {self._why}")
        self.disconnect()
        self._library = await asyncio.to_thread(import_module, _CLIENT)
        client = self._library.made(self.address)
        if not await self._library.connected(client):
            client.close()
            self._why = "it cannot be connected"
            self._not_before = self._clock.monotonic() + self._backoff.next_seconds()
            raise DeviceUnreachable(f"the line {self.address} is down: {self._why}")
        self._client, self._silent = client, 0
        self._backoff.reset()

    def _failed(self, error: Exception, timeout_seconds: float) -> DeviceUnreachable:
        """A late answer cannot be told from the next one on a serial line: begin anew there. TCP numbers them."""
        self._silent += 1
        lost = not self._client.connected
        if lost or self._silent >= SILENT_BEFORE_RECONNECT or isinstance(self.address, SerialLine):
            self.disconnect()
        if lost:
            return DeviceUnreachable(f"the connection to {self.address} was lost")
        if isinstance(error, TimeoutError):
            return DeviceUnreachable(f"no answer on {self.address} within {timeout_seconds:g} s")
        return DeviceUnreachable(f"{self.address}: {error}")


class Lines:
    """All lines of a driver, each held by the devices that use it."""

    def __init__(self, clock: Clock, backoff: Callable[[], Backoff]) -> None:
        self._clock = clock
        self._new_backoff = backoff
        self._lines: dict[str, Line] = {}

    def take(self, address: LineAddress) -> Line:
        """The line, for one more user. Raises BadConfig where it cannot be had."""
        _check_installed(address)
        self._forget_idle()
        line = self._lines.get(str(address))
        if line is None or (line.address != address and not line.users):
            line = self._lines[str(address)] = Line(address, self._clock, self._new_backoff())
        if line.address != address:
            right = f"{address} is in use with other settings; all devices on one line have to say the same"
            raise BadConfig("protocol.configData.serialPort", right)
        line.users += 1
        return line

    def release(self, line: Line) -> None:
        """One user less; the last one closes the connection."""
        line.users -= 1
        if not line.users:
            line.disconnect()
            self._forget_idle()

    def _forget_idle(self) -> None:
        """A line that backs off is kept though nobody holds it: the next one to come must not try at once."""
        self._lines = {k: line for k, line in self._lines.items() if line.users or line.backs_off()}


def _check_installed(address: LineAddress) -> None:
    if isinstance(address, SerialLine) and importlib.util.find_spec("serial") is None:
        right = "RTU needs the package pyserial, which is not installed here"
        raise BadConfig("protocol.configData.communicateMode", right)
