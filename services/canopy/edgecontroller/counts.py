"""The metrics of EdgeController by name. Made in `unit.py`; nobody decides by them."""

from canopy.runtime.metrics import Metrics


class Counts:
    def __init__(self, metrics: Metrics) -> None:
        prefix = "canopy_edgecontroller_"
        self.heard = metrics.counter(f"{prefix}heard_total", "Words of nodes heard.")
        self.writes = metrics.counter(f"{prefix}writes_total", "Writes to Kubernetes, by what was written.")
        self.conflicts = metrics.counter(f"{prefix}conflicts_total", "Writes that Kubernetes refused as outdated.")
        self.failures = metrics.counter(f"{prefix}failures_total", "Writes that failed otherwise.")
        self.budget_waits = metrics.counter(f"{prefix}budget_waits_total", "Times that only the budget held a write.")
        self.lag = metrics.gauge(f"{prefix}lag_seconds", "For how long the node written last had been dirty.")
