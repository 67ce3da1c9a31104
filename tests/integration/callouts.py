"""The real decision of spire_integration, as the one who answers a hub's callout; and its audit, to look into."""

from dataclasses import dataclass, field

from canopy.identity.hubkeys import HubKeys
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.metrics import Metrics
from canopy.spire_integration.callout import Admission
from canopy.spire_integration.core import Believed
from canopy.spire_integration.counts import Counts
from canopy.testing.admits import Answers
from canopy.testing.domain import TD


@dataclass(frozen=True, slots=True)
class RealCallout:
    """Given to `open_world`; nobody is revoked."""

    audit: AuditLog = field(default_factory=lambda: AuditLog("spire_integration"))
    believed: Believed = field(default_factory=Believed)

    def __call__(self, keys: HubKeys) -> Answers:
        counts, clock = Counts.of(Metrics()), SystemClock()
        return Admission(keys.issuer.seed, TD, lambda: frozenset(), self.audit, counts, clock, self.believed).answer

    def refusals(self) -> set[str]:
        """Whom it has refused, of what the audit has not sent."""
        return {record.who for record in self.audit.waiting(1_000) if record.outcome == "refused"}
