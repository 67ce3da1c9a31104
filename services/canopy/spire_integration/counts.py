"""The metrics of spire_integration by name. Made in `unit.py`; handlers count, nobody decides by them."""

from dataclasses import dataclass

from canopy.runtime.metrics import Counter, Histogram, Metrics


@dataclass(frozen=True, slots=True)
class Counts:
    admissions: Counter
    refusals: Counter
    late: Counter
    callout_seconds: Histogram
    kicked: Counter
    written: Counter
    failures: Counter

    @classmethod
    def of(cls, metrics: Metrics) -> "Counts":
        def counter(name: str) -> Counter:
            return metrics.counter(f"canopy_spire_integration_{name}_total")

        return cls(
            admissions=counter("admissions"),
            refusals=counter("refusals"),
            late=counter("late"),
            callout_seconds=metrics.histogram("canopy_spire_integration_callout_seconds"),
            kicked=counter("kicked"),
            written=counter("written"),
            failures=counter("failures"),
        )
