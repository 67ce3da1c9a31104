"""What the benchmarks share: the processes' CPU and memory from /proc, quantiles, and a report as text or JSON."""

import json
import os
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from canopy.testing.system import System

TICKS = os.sysconf("SC_CLK_TCK")


def usage(pid: int) -> dict[str, float]:
    """CPU seconds so far and resident memory in MB of a process (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rss = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return {"cpu_seconds": (int(fields[11]) + int(fields[12])) / TICKS, "rss_mb": int(rss.split()[1]) / 1024}


def usages(system: System) -> dict[str, dict[str, float]]:
    """Of every process of the system, by name."""
    return {name: usage(pid) for name, (pid, _) in system.pids().items()}


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """CPU seconds spent between two looks, and memory at the second."""
    return {
        name: {
            "cpu_seconds": round(now["cpu_seconds"] - before[name]["cpu_seconds"], 2),
            "rss_mb": round(now["rss_mb"]),
        }
        for name, now in after.items()
        if name in before
    }


def quantiles(seconds: Iterable[float]) -> dict[str, float]:
    """p50 and p99 in ms."""
    values = sorted(seconds)
    if not values:
        return {"p50_ms": float("nan"), "p99_ms": float("nan")}
    return {
        "p50_ms": round(statistics.median(values) * 1000, 2),
        "p99_ms": round(values[min(len(values) - 1, int(len(values) * 0.99))] * 1000, 2),
    }


def report(found: Mapping[str, Any], as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return
    for key, value in found.items():
        if key != "processes":
            print(f"{key:32}{value}")
    for name, used in found.get("processes", {}).items():
        print(f"  {name:30}{used['cpu_seconds']:8.2f} CPU s {used['rss_mb']:6.0f} MB")
