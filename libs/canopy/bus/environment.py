"""What a process gives to each of its units: connection, telemetry, health, metrics, dead letters, and the settings."""

from dataclasses import dataclass, field

from canopy.bus.bus import Bus
from canopy.bus.connection import Connection
from canopy.runtime.health import Health, Metrics
from canopy.runtime.letters import DeadLetters
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Environment:
    """Made once a process by whoever runs the units (the command line, a test)."""

    shared: Shared
    connection: Connection
    telemetry: Telemetry
    health: Health
    metrics: Metrics = field(default_factory=Metrics)
    letters: DeadLetters = field(default_factory=lambda: DeadLetters(""))

    def bus(self, unit: str, node: str = "") -> Bus:
        """A unit's own end of the connection; `node` only for the unit that speaks on the link."""
        unsaid = self.metrics.counter(f"canopy_{unit}_unsaid_total")
        return Bus(self.connection, unit, self.telemetry, node, letters=self.letters, unsaid=unsaid)
