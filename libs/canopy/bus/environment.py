"""What a process gives to each of its units: the connection, telemetry, health and the settings that all share."""

from dataclasses import dataclass

from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry

from canopy.bus.bus import Bus
from canopy.bus.connection import Connection


@dataclass(frozen=True, slots=True)
class Environment:
    """Made once a process by whoever runs the units (the command line, a test)."""

    shared: Shared
    connection: Connection
    telemetry: Telemetry
    health: Health

    def bus(self, unit: str, node: str = "") -> Bus:
        """A unit's own end of the connection; `node` only for the unit that speaks on the link."""
        return Bus(self.connection, unit, self.telemetry, node)
