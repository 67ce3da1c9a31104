"""The driver SDK: all that the author of a driver needs. `examples/lamp.py` is a whole driver in 30 lines.

A driver is a subclass of `Driver`, found by the entry point group `canopy.drivers` (name = protocol) or run from one
file: `canopy mapper run lamp.py`. It says how to open, read, write and close one device. When to read, what has
changed, what to report, how long to wait for a device that is away: all that is the mapper's business.
One instance serves every device of its protocol; no two calls for the same device are ever under way at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

from canopy.mapper.config import BadConfig, Config

__all__ = [
    "BadConfig",
    "BadValue",
    "Config",
    "DeviceUnreachable",
    "DeviceView",
    "Driver",
    "PropertyFailed",
    "PropertyView",
    "Reading",
    "Value",
]

Value: TypeAlias = str | int | float | bool


class DeviceUnreachable(Exception):
    """The device does not answer. It is closed, said to be offline, and opened again after a while."""


class BadValue(ValueError):
    """This value cannot be written to this property; the text says what could. It is not tried again."""


class PropertyFailed(Exception):
    """One property cannot be read now; the device itself answers. Returned in a reading, or raised by `write`."""


Reading: TypeAlias = Mapping[str, Value | PropertyFailed]
"""Property name to its value. A name left out is a property that says nothing this time."""


@dataclass(frozen=True, slots=True)
class PropertyView:
    """One property of a device: what the DeviceModel and the Device say of it together.

    `type` is int, float, double, boolean, string, bytes or stream. `config` is the visitor's configData.
    `minimum` and `maximum` are already enforced before `write` is called.
    """

    name: str
    type: str = "string"
    read_only: bool = False
    minimum: float | None = None
    maximum: float | None = None
    config: Config = field(default_factory=lambda: Config({}, "visitors.configData"))
    collect_cycle_ms: int = 1000


@dataclass(frozen=True, slots=True)
class DeviceView:
    """One device. `uid` and `digest` together change with everything that matters to a driver."""

    namespace: str
    name: str
    protocol: str
    properties: tuple[PropertyView, ...] = ()
    config: Config = field(default_factory=lambda: Config({}, "protocol.configData"))
    uid: str = ""
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return (self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Driver:
    """Subclass this. `protocol` is the `protocolName` of the devices that this driver serves."""

    protocol: ClassVar[str]

    def line(self, device: DeviceView) -> str:
        """What the device hangs on, where several share it and only one can speak at a time: a bus, a gateway.

        Devices of one line are served one after another, those of different lines side by side.
        """
        return str(device)

    async def open(self, device: DeviceView) -> None:
        """Make ready. Raises DeviceUnreachable (tried again), BadConfig (not until the manifest changes)."""

    async def read(self, device: DeviceView, properties: Sequence[PropertyView]) -> Reading:
        """The values of `properties` now. Raises DeviceUnreachable."""
        raise NotImplementedError

    async def write(self, device: DeviceView, property: PropertyView, value: str) -> None:
        """Set `property`; it is read back right after. Raises BadValue, PropertyFailed, DeviceUnreachable."""
        raise BadValue(f"the driver {self.protocol} cannot write")

    async def close(self, device: DeviceView) -> None:
        """Let go of the device: it is gone, changed or unreachable. Called once for each `open` that succeeded."""
