"""How many writes the Kubernetes API takes, when each device reports a hundred times a second.

    .venv/bin/python bench/writes.py [--devices 20] [--rate 100] [--seconds 20] [--runs 3] [--json]

Counted at the API server, kubeserve: DeviceStatus writes by a watch (which shows each), all writes of all kinds, Leases
and Nodes too, by its one counter of revisions. First one device, then as many as `--devices` says.
"""

import argparse
import asyncio
import time
from pathlib import Path
from typing import Any

import cluster
from doors import Doors
from measure import Figures, between, main, options, say, usages
from stock import publishers, update

from canopy.testing.clients import KubeClient
from canopy.testing.system import System

SETTLE_SECONDS = 2.0


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    async with System(folder, split=arguments.split) as system, system.kube() as kube:
        doors = Doors(system)
        names = await cluster.known(doors, kube, max(1, arguments.devices))
        before = usages(system)
        figures = {}
        for word, some in (("one", names[:1]), ("all", names)):
            say(f"writes: {len(some)} devices, {arguments.rate:g} reports a second each")
            figures |= {f"{word}_{k}": v for k, v in (await _counted(doors, kube, some, arguments)).items()}
        return figures | {"processes": between(before, usages(system))}


async def _counted(doors: Doors, kube: KubeClient, names: list[str], arguments: argparse.Namespace) -> Figures:
    writes: dict[str, list[float]] = {}

    def wrote(kind: str, status: dict[str, Any], at: float) -> None:
        writes.setdefault(status["metadata"]["name"], []).append(at)

    first, began = await cluster.revision(kube), time.monotonic()
    async with cluster.watching(kube, "DeviceStatus", wrote):
        sent = await _reports(doors, names, arguments.rate, arguments.seconds)
        seconds = time.monotonic() - began
        rates, revisions = [_rate(at) for at in writes.values()], await cluster.revision(kube) - first
    await asyncio.sleep(SETTLE_SECONDS)
    return {
        "reports_per_second": round(sent / seconds),
        "status_writes_per_device_per_second": round(sum(rates) / len(names), 3),
        "of_the_busiest_device": round(max(rates), 3),
        "writes_of_all_kinds_per_second": round(revisions / seconds, 2),
    }


def _rate(at: list[float]) -> float:
    """Writes a second from the first to the last: the first one goes at once, so it opens the time."""
    return (len(at) - 1) / (at[-1] - at[0]) if len(at) > 1 else 0.0


async def _reports(doors: Doors, names: list[str], rate: float, seconds: float) -> int:
    """Each device at `rate` for `seconds`; how many were sent."""
    value, began = 0, time.monotonic()
    async with publishers(doors, names) as clients:
        while (passed := time.monotonic() - began) < seconds:
            if value >= passed * rate:
                await asyncio.sleep(value / rate - passed)
            value += 1
            for client in clients.values():
                client.send(update(value))
    return value * len(names)


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=20, help="devices of the second part")
    parser.add_argument("--rate", type=float, default=100.0, help="reports a second of each device")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each part")
    return parser


if __name__ == "__main__":
    main("writes", _options(), measured)
