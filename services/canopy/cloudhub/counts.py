"""The metrics of CloudHub by name. Made in `unit.py`; handlers count, nobody decides by them."""

from dataclasses import dataclass

from canopy.runtime.metrics import Counter, Gauge, Histogram, Metrics


@dataclass(frozen=True, slots=True)
class Counts:
    hellos: Counter
    beats: Counter
    reports: Counter
    pages: Counter
    busy: Counter
    pushes: Counter
    dropped: Counter
    purged: Counter
    writes: Counter
    write_seconds: Histogram
    live_anew: Counter
    cache_failures: Counter
    watchers: Gauge
    in_hand: Gauge

    @classmethod
    def of(cls, metrics: Metrics) -> "Counts":
        def counter(name: str) -> Counter:
            return metrics.counter(f"canopy_cloudhub_{name}_total")

        return cls(
            hellos=counter("hellos"),
            beats=counter("beats"),
            reports=counter("reports"),
            pages=counter("pages"),
            busy=counter("busy"),
            pushes=counter("pushes"),
            dropped=counter("dropped"),
            purged=counter("purged"),
            writes=counter("writes"),
            write_seconds=metrics.histogram("canopy_cloudhub_write_seconds"),
            live_anew=counter("live_anew"),
            cache_failures=counter("cache_failures"),
            watchers=metrics.gauge("canopy_cloudhub_watchers"),
            in_hand=metrics.gauge("canopy_cloudhub_states_in_hand"),
        )
