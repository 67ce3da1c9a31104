"""The metrics of CloudHub by name. Made in `unit.py`; handlers count, nobody decides by them."""

from dataclasses import dataclass

from canopy.runtime.metrics import Counter, Gauge, Metrics


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
    write_seconds: Counter
    live_anew: Counter
    cache_failures: Counter
    watchers: Gauge

    @classmethod
    def of(cls, metrics: Metrics) -> "Counts":
        def counter(name: str, help: str) -> Counter:
            return metrics.counter(f"canopy_cloudhub_{name}_total", help)

        def gauge(name: str, help: str) -> Gauge:
            return metrics.gauge(f"canopy_cloudhub_{name}", help)

        return cls(
            hellos=counter("hellos", "hellos by verdict"),
            beats=counter("beats", "beats by verdict; page: the set differed"),
            reports=counter("reports", "device states by outcome"),
            pages=counter("pages", "pages by channel and verdict"),
            busy=counter("busy", "asks answered with `busy`, by what was asked"),
            pushes=counter("pushes", "changes handed to a node"),
            dropped=counter("dropped", "what was dropped, by what: pushes without a session, events of slow watchers"),
            purged=counter("purged", "records purged because their node does not list them"),
            writes=counter("writes", "writes to TWINS that were answered"),
            write_seconds=counter("write_seconds", "seconds that these writes took, in all"),
            live_anew=counter("live_anew", "nodes whose live twins were written anew from TWINS"),
            cache_failures=counter("cache_failures", "times that the cache did not answer"),
            watchers=gauge("watchers", "open watches of the fleet API"),
        )
