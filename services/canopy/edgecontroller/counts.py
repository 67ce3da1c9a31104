"""The metrics of EdgeController by name. Made in `unit.py`; nobody decides by them."""

from canopy.runtime.metrics import Metrics


class Counts:
    def __init__(self, metrics: Metrics) -> None:
        prefix = "canopy_edgecontroller_"
        self.heard = metrics.counter(f"{prefix}heard_total")
        self.writes = metrics.counter(f"{prefix}writes_total")
        self.conflicts = metrics.counter(f"{prefix}conflicts_total")
        self.failures = metrics.counter(f"{prefix}failures_total")
        self.budget_waits = metrics.counter(f"{prefix}budget_waits_total")
        self.dropped = metrics.counter(f"{prefix}dropped_total")
        self.lag = metrics.gauge(f"{prefix}lag_seconds")
