"""Time to equal after a reconnect: from the moment that a unit hears of a new session until its set is equal again.

MetaManager measures the set downward with it, DeviceTwin the one upward; each in a histogram and as the newest time.
"""

from canopy.runtime.clock import Clock
from canopy.runtime.metrics import Metrics


class Equal:
    """`began` with each new session, `reached` whenever all is equal: the first one after a beginning counts."""

    def __init__(self, unit: str, metrics: Metrics, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        self._all = metrics.histogram(f"canopy_{unit}_equal_seconds")
        self._last = metrics.gauge(f"canopy_{unit}_last_equal_seconds")

    def began(self) -> None:
        self._since = self._clock.monotonic()

    def reached(self) -> None:
        if self._since is None:
            return
        seconds, self._since = self._clock.monotonic() - self._since, None
        self._all.observe(seconds)
        self._last.set(seconds)

    def gone(self) -> None:
        """The link is down: what was not equal by then does not count."""
        self._since = None
