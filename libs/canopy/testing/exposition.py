"""Reads Prometheus text exposition 0.0.4 strictly: what `/metrics` says, or ValueError that names the line. For tests.

Stricter than Prometheus: each family has HELP, then TYPE, then its samples, all together; no sample twice; a counter's
name ends in `_total`; a histogram's buckets rise and end with +Inf, which is its count.
"""

import re
from dataclasses import dataclass, field

_HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)")
_TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram)")
_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? ([+-]?(?:[0-9.]+(?:e[+-]?[0-9]+)?|Inf)|NaN)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    """One metric: samples by (name, labels)."""

    name: str
    help: str
    kind: str = ""
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)

    def value(self, suffix: str = "", **labels: str) -> float:
        """One sample. Raises KeyError."""
        return self.samples[self.name + suffix, tuple(sorted(labels.items()))]


def families(text: str) -> dict[str, Family]:
    """Every family by its name. Raises ValueError."""
    if not text.endswith("\n"):
        raise ValueError("the last line has no end")
    found: dict[str, Family] = {}
    now: Family | None = None
    for number, line in enumerate(text.splitlines(), 1):
        try:
            now = _read(line, now, found)
        except (ValueError, KeyError) as e:
            raise ValueError(f"line {number}, {line!r}: {e}") from None
    for family in found.values():
        _check(family)
    return found


def _read(line: str, now: Family | None, found: dict[str, Family]) -> Family:
    if help := _HELP.fullmatch(line):
        if help[1] in found:
            raise ValueError("this family was there before")
        return found.setdefault(help[1], Family(help[1], help[2]))
    if now is None:
        raise ValueError("no HELP stands before it")
    if type_ := _TYPE.fullmatch(line):
        if type_[1] != now.name or now.kind or now.samples:
            raise ValueError("TYPE belongs right behind the HELP of its family")
        now.kind = type_[2]
        return now
    return _sample(line, now)


def _sample(line: str, now: Family) -> Family:
    sample = _SAMPLE.fullmatch(line)
    if sample is None or not now.kind:
        raise ValueError("this is no sample of a family with HELP and TYPE")
    suffixes = ("_bucket", "_sum", "_count") if now.kind == "histogram" else ("",)
    if sample[1] not in [now.name + suffix for suffix in suffixes]:
        raise ValueError(f"this is not of the family {now.name}")
    key = (sample[1], _labels(sample[2] or ""))
    if key in now.samples:
        raise ValueError("this sample was there before")
    now.samples[key] = float(sample[3])
    return now


def _labels(text: str) -> Labels:
    found, at = [], 0
    while at < len(text):
        one = _LABEL.match(text, at)
        if one is None:
            raise ValueError(f"labels at {text[at:]!r}")
        found.append((one[1], one[2]))
        at = one.end()
    return tuple(sorted(found))


def _check(family: Family) -> None:
    if not family.kind:
        raise ValueError(f"{family.name} has no TYPE")
    if family.kind == "counter" and not family.name.endswith("_total"):
        raise ValueError(f"the counter {family.name} does not end in _total")
    if family.kind == "histogram":
        buckets = [v for (name, _), v in family.samples.items() if name.endswith("_bucket")]
        if buckets != sorted(buckets) or family.value("_bucket", le="+Inf") != family.value("_count"):
            raise ValueError(f"the buckets of {family.name} do not rise to its count")
