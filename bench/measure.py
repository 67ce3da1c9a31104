"""What the benchmarks share: options, repeated runs, the processes' CPU and memory from /proc, text and JSON.

A benchmark is a coroutine function from (arguments, an empty folder) to figures by name; `main` is its command line.
Figures are numbers, or mappings of numbers. Of several runs the median is told, with the least and the most.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from canopy.testing.system import System

TICKS = os.sysconf("SC_CLK_TCK")
STOCK_CLIENTS = ("mosquitto_pub", "mosquitto_sub")

Figures = dict[str, Any]
Measure = Callable[[argparse.Namespace, Path], Awaitable[Figures]]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def options(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1, help="whole runs; medians are told, with least and most")
    parser.add_argument("--split", action="store_true", help="a process a unit, in place of one for each plane")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def main(name: str, parser: argparse.ArgumentParser, measure: Measure) -> None:
    """Run it as often as was asked, each time with a system of its own, and print what was found."""
    arguments = parser.parse_args()
    if arguments.runs < 1:
        parser.error(f"--runs {arguments.runs}: give 1 or more")
    if missing := [tool for tool in STOCK_CLIENTS if shutil.which(tool) is None]:
        parser.error(f"{', '.join(missing)} missing: install Debian's mosquitto-clients")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM cleans up as Ctrl-C does
    runs = []
    for number in range(1, arguments.runs + 1):
        say(f"{name}: run {number} of {arguments.runs}")
        with tempfile.TemporaryDirectory(prefix="canopy-bench-") as folder:
            runs.append(asyncio.run(measure(arguments, Path(folder))))
    settings = {k: v for k, v in vars(arguments).items() if k not in ("json", "runs")}
    _print(
        {"benchmark": name, "machine": machine(), "settings": settings, "figures": spread(runs), "runs": runs},
        arguments.json,
    )


def machine() -> dict[str, Any]:
    """What it ran on; the API server is always our own small one, kubeserve."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "api_server": "kubeserve",
        "load_before": round(os.getloadavg()[0], 2),
    }


def spread(runs: Sequence[Any]) -> Any:
    """Median, least and most of each figure."""
    if isinstance(runs[0], Mapping):
        keys = dict.fromkeys(key for run in runs for key in run)
        return {key: spread([run[key] for run in runs if key in run]) for key in keys}
    return {"median": statistics.median(runs), "min": min(runs), "max": max(runs)}


def _print(found: Figures, as_json: bool) -> None:
    if as_json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return
    for key, value in found["figures"].items():
        if "median" in value:
            print(f"{key:40}{_told(value)}")
        else:
            for name, used in value.items():
                print(f"  {name:30}" + "".join(f"{figure}: {_told(one):28}" for figure, one in used.items()))


def _told(value: Mapping[str, float]) -> str:
    if value["min"] == value["max"]:
        return f"{value['median']:g}"
    return f"{value['median']:g} ({value['min']:g} to {value['max']:g})"


def quantiles(name: str, seconds: Iterable[float]) -> dict[str, float]:
    """p50, p99 and the most, in ms."""
    values = sorted(seconds)
    if not values:
        raise RuntimeError(f"{name}: nothing was measured")
    return {
        f"{name}_p50_ms": round(statistics.median(values) * 1000, 2),
        f"{name}_p99_ms": round(values[min(len(values) - 1, int(len(values) * 0.99))] * 1000, 2),
        f"{name}_most_ms": round(values[-1] * 1000, 2),
    }


# --- processes --------------------------------------------------------------------------------------------------------
def usage(pid: int) -> dict[str, float]:
    """CPU seconds so far and resident memory in MB of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rss = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {"cpu_seconds": (int(fields[11]) + int(fields[12])) / TICKS, "rss_mb": int(rss.split()[1]) / 1024}


def usages(system: System) -> dict[str, dict[str, float]]:
    """Of every process of the system, by name."""
    return {name: usage(pid) for name, (pid, _) in system.pids().items()}


def edge_mb(system: System) -> float:
    """Resident memory of the first node: its units and its nats-server."""
    node = system.node().name
    return round(
        sum(usage(pid)["rss_mb"] for name, (pid, _) in system.pids().items() if name.startswith(f"{node}/")), 1
    )


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """CPU seconds spent between two looks, and memory at the second."""
    return {
        name: {
            "cpu_seconds": round(now["cpu_seconds"] - before[name]["cpu_seconds"], 2),
            "rss_mb": round(now["rss_mb"], 1),
        }
        for name, now in after.items()
        if name in before
    }
