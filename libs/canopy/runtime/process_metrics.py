"""What every process says of itself at /metrics, under the usual `process_...` names. `canopy.launch` registers it."""

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from canopy.runtime.metrics import Metrics

_PAGE_BYTES = resource.getpagesize()


Identities = Callable[[], Mapping[str, float]]


def measure(metrics: Metrics, left: Identities = dict, late: Identities = dict) -> None:
    """Register them; the process counts as begun now. By SPIFFE ID: how many seconds each certificate lasts still, and
    whether it should have been renewed (1.0)."""
    began, started = time.time(), time.monotonic()
    metrics.counted("process_cpu_seconds_total", _cpu_seconds)
    metrics.gauge("process_resident_memory_bytes", read=_resident_bytes)
    metrics.gauge("process_open_fds", read=_open_fds)
    metrics.gauge("process_max_fds", read=lambda: float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
    metrics.gauge("process_start_time_seconds").set(began)
    metrics.gauge("canopy_process_uptime_seconds", read=lambda: time.monotonic() - started)
    metrics.gauge("canopy_build_info").set(1, version=version("canopy"))
    metrics.gauge("canopy_identity_left_seconds", read=left)
    metrics.gauge("canopy_identity_late", read=late)
    metrics.counted("canopy_metrics_left_out_total", lambda: float(metrics.left_out))


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _resident_bytes() -> float:
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:  # not Linux: the most that it ever was
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return float(most if sys.platform == "darwin" else most * 1024)


def _open_fds() -> float:
    folder = "/proc/self/fd" if sys.platform.startswith("linux") else "/dev/fd"
    return float(len(os.listdir(folder)) - 1)  # noqa: PTH208 - one of them is the listing's own
