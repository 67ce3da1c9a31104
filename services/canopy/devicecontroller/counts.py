"""The metrics of DeviceController by name. Made in `unit.py`; nobody decides by them."""

from canopy.runtime.metrics import Metrics


class Counts:
    def __init__(self, metrics: Metrics) -> None:
        prefix = "canopy_devicecontroller_"
        self.pages = metrics.counter(f"{prefix}pages_total", "Pages answered.")
        self.pushes = metrics.counter(f"{prefix}pushes_total", "Pushes said.")
        self.writes = metrics.counter(f"{prefix}writes_total", "Writes to Kubernetes, by what was written.")
        self.conflicts = metrics.counter(f"{prefix}conflicts_total", "Writes that Kubernetes refused as outdated.")
        self.failures = metrics.counter(f"{prefix}failures_total", "Writes and reads that failed otherwise.")
        self.purges = metrics.counter(f"{prefix}purges_total", "Records of TWINS that were of no device.")
        self.budget_waits = metrics.counter(f"{prefix}budget_waits_total", "Times that only the budget held a write.")
        self.lag = metrics.gauge(f"{prefix}lag_seconds", "For how long the device written last had been dirty.")
