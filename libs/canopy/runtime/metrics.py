"""Counters and gauges as Prometheus text. Units register theirs in `unit.py`; `health.HealthServer` serves them."""

import re
from collections.abc import Callable, Iterator

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
    """What is now; set by the unit, or read at the moment when someone asks."""

    def __init__(self, name: str, help: str, read: Callable[[], float] | None = None, kind: str = "gauge") -> None:
        super().__init__(name, help, kind)
        self._read = read

    def set(self, value: float, **labels: str) -> None:
        self._put(_key(labels), value)

    def text(self) -> Iterator[str]:
        if self._read is not None:
            self.set(self._read())
        yield from super().text()


class Metrics:
    """The metrics of one process. Asking for a name again gives the same metric (folded units share them)."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def counter(self, name: str, help: str) -> Counter:
        found = self._metrics.setdefault(name, Counter(name, help, "counter"))
        if not isinstance(found, Counter):
            raise ValueError(f"{name} is already a {found.kind}")
        return found

    def gauge(self, name: str, help: str, read: Callable[[], float] | None = None) -> Gauge:
        """`read` is called at each scrape, in place of `set`; it must be quick. A later `read` takes its place."""
        found = self._metrics.setdefault(name, Gauge(name, help, read))
        if not isinstance(found, Gauge):
            raise ValueError(f"{name} is already a {found.kind}")
        if read is not None:
            found._read = read
        return found

    def counted(self, name: str, help: str, read: Callable[[], float]) -> None:
        """A counter that somebody else keeps (such as `Database.commits`), read at each scrape."""
        self._metrics[name] = Gauge(name, help, read, kind="counter")

    def text(self) -> str:
        """Prometheus text exposition 0.0.4."""
        return "".join(f"{line}\n" for metric in self._metrics.values() for line in metric.text())


def _key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in labels) + "}" if labels else ""


def _escaped(text: str, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
