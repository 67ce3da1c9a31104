"""Counters, gauges and histograms as Prometheus text. Units register theirs; `health.HealthServer` serves them.

What a name means, and its labels, stands in `canopy.contracts.measures`: a name that is not there must bring its help.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

from canopy.contracts.measures import MEASURES, SECONDS_BUCKETS

MOST_SERIES_PER_METRIC = 1_000

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Labels = tuple[tuple[str, str], ...]


class Metric:
    """One name with its series. Beyond 1,000 label sets, further ones are left out and counted in `left_out`."""

    def __init__(self, name: str, help: str, kind: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"metric name {name!r}: letters, digits and _ only")
        self.name = name
        self.help = help
        self.kind = kind
        self.left_out = 0
        self._series: dict[Labels, float] = {}

    def value(self, **labels: str) -> float:
        return self._series.get(_key(labels), 0.0)

    def text(self) -> Iterator[str]:
        yield f"# HELP {self.name} {_escaped(self.help)}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self._series.items():
            yield f"{self.name}{_braces(labels)} {_number(value)}"

    def _put(self, key: Labels, value: float) -> None:
        if key in self._series or len(self._series) < MOST_SERIES_PER_METRIC:
            self._series[key] = value
        else:
            self.left_out += 1


class Counter(Metric):
    """Only rises. Its name ends in `_total`."""

    def add(self, amount: float = 1.0, **labels: str) -> None:
        if amount < 0:
            raise ValueError(f"{self.name}: a counter only rises; {amount} was added")
        self._put(_key(labels), self.value(**labels) + amount)


class Gauge(Metric):
    """What is now; set by the unit, or read at the moment when someone asks.

    `read` gives the value, or a value for each word of the metric's one label.
    """

    def __init__(self, name: str, help: str, read: "Read | None" = None, kind: str = "gauge") -> None:
        super().__init__(name, help, kind)
        self._read = read

    def set(self, value: float, **labels: str) -> None:
        self._put(_key(labels), value)

    def text(self) -> Iterator[str]:
        if self._read is not None:
            self._take(self._read())
        yield from super().text()

    def _take(self, found: float | Mapping[str, float]) -> None:
        if isinstance(found, Mapping):
            (label,) = MEASURES[self.name].labels
            self._series = {((label, word),): value for word, value in list(found.items())[:MOST_SERIES_PER_METRIC]}
        else:
            self.set(found)


Read = Callable[[], float | Mapping[str, float]]


class Histogram(Metric):
    """How often a value was at most so much: `observe` counts it in its bucket. Without labels."""

    def __init__(self, name: str, help: str, bounds: Sequence[float] = SECONDS_BUCKETS) -> None:
        super().__init__(name, help, "histogram")
        self._bounds, self._counts = tuple(bounds), [0] * (len(bounds) + 1)
        self.count, self.sum = 0, 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.count += 1
        self.sum += value

    def text(self) -> Iterator[str]:
        yield from super().text()
        so_far = 0
        for bound, count in zip((*self._bounds, None), self._counts, strict=True):
            so_far += count
            yield f'{self.name}_bucket{{le="{"+Inf" if bound is None else _number(bound)}"}} {so_far}'
        yield f"{self.name}_sum {_number(self.sum)}"
        yield f"{self.name}_count {so_far}"


class Metrics:
    """The metrics of one process. Asking for a name again gives the same metric (folded units share them)."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    @property
    def left_out(self) -> int:
        """Changes of series for which there was no room."""
        return sum(metric.left_out for metric in self._metrics.values())

    def counter(self, name: str, help: str = "") -> Counter:
        found = self._metrics.setdefault(name, Counter(name, _help(name, help, "counter"), "counter"))
        if not isinstance(found, Counter):
            raise ValueError(f"{name} is already a {found.kind}")
        return found

    def gauge(self, name: str, help: str = "", read: Read | None = None) -> Gauge:
        """`read` is called at each scrape, in place of `set`; it must be quick. A later `read` takes its place."""
        found = self._metrics.setdefault(name, Gauge(name, _help(name, help, "gauge"), read))
        if not isinstance(found, Gauge):
            raise ValueError(f"{name} is already a {found.kind}")
        if read is not None:
            found._read = read
        return found

    def histogram(self, name: str, help: str = "") -> Histogram:
        found = self._metrics.setdefault(name, Histogram(name, _help(name, help, "histogram")))
        if not isinstance(found, Histogram):
            raise ValueError(f"{name} is already a {found.kind}")
        return found

    def counted(self, name: str, read: Callable[[], float], help: str = "") -> None:
        """A counter that somebody else keeps (such as how many letters were dropped), read at each scrape."""
        self._metrics[name] = Gauge(name, _help(name, help, "counter"), read, kind="counter")

    def text(self) -> str:
        """Prometheus text exposition 0.0.4."""
        return "".join(f"{line}\n" for metric in self._metrics.values() for line in metric.text())


def _help(name: str, help: str, kind: str) -> str:
    """What the catalogue says of the name; a name that is not there brings its own."""
    declared = MEASURES.get(name)
    if declared is not None and declared.kind == kind:
        return declared.help
    if declared is not None or not help:
        raise ValueError(f"{name} is no {kind} of canopy.contracts.measures")
    return help


def _key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels) + "}" if labels else ""


def _escaped(text: str, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
