"""Reports made while the cloud is away: how long after its return Kubernetes shows all that was meant.

    .venv/bin/python bench/offline.py [--reports 100] [--away 4] [--runs 3] [--json]

Four ways to be away: the link is cut and joined (`link`), the hub's nats-server is killed and started again (`hub`),
the cloud's units are stopped (`cloud`) or killed (`killed`: the next leader waits until the old one's Lease runs out)
and started again. Each twice: so many reports of one device, and one report each of so many devices. The time begins
when the link is open, the server listens, the units are ready again, and ends when DeviceStatus shows every last value.
`..._missing` counts values that never came.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import cluster
from doors import Doors
from measure import Figures, main, options, say
from stock import publishers, update

from canopy.testing.clients import KubeClient
from canopy.testing.system import System
from canopy.testing.wait import until

SHOWN_SECONDS = 60.0
QUIET_SECONDS = 2.0

Turn = Callable[[System], Awaitable[None]]


async def _cut(system: System) -> None:
    await system.node().link.cut()


async def _join(system: System) -> None:
    await system.node().link.join()


async def _kill_hub(system: System) -> None:
    await system.hub.server.kill()


async def _start_hub(system: System) -> None:
    await system.hub.server.start()


async def _stop_cloud(system: System) -> None:
    await asyncio.gather(*(process.stop() for process in system.cloud.values()))


async def _kill_cloud(system: System) -> None:
    await asyncio.gather(*(process.kill() for process in system.cloud.values()))


async def _start_cloud(system: System) -> None:
    await asyncio.gather(*(process.start() for process in system.cloud.values()))


WAYS: dict[str, tuple[Turn, Turn]] = {
    "link": (_cut, _join),
    "hub": (_kill_hub, _start_hub),
    "cloud": (_stop_cloud, _start_cloud),
    "killed": (_kill_cloud, _start_cloud),
}


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    figures: Figures = {}
    async with System(folder, split=arguments.split) as system, system.kube() as kube:
        doors = Doors(system)
        names = await cluster.known(doors, kube, arguments.reports)
        value = 0
        for way, (leave, come) in WAYS.items():
            for what, devices in (("one_device", names[:1]), ("devices", names)):
                say(f"offline: {way}, {arguments.reports} reports of {len(devices)} devices")
                meant = {}
                for number in range(arguments.reports):
                    value += 1
                    meant[devices[number % len(devices)]] = value
                await leave(system)
                first = value - arguments.reports + 1
                await _report(doors, devices, range(first, value + 1))
                await asyncio.sleep(arguments.away)
                await come(system)
                seconds, missing = await _shown(kube, meant)
                figures |= {f"{way}_{what}_s": round(seconds, 2), f"{way}_{what}_missing": missing}
                await asyncio.sleep(QUIET_SECONDS)
    return figures


async def _report(doors: Doors, devices: list[str], values: range) -> None:
    async with publishers(doors, devices) as clients:
        for place, value in enumerate(values):
            clients[devices[place % len(devices)]].send(update(value))


async def _shown(kube: KubeClient, meant: dict[str, int]) -> tuple[float, int]:
    """Seconds until all are shown, and how many are not after a minute."""
    began, missing = time.monotonic(), len(meant)

    async def all_shown() -> bool:
        nonlocal missing
        statuses = {s["metadata"]["name"]: cluster.reported(s) for s in await kube.all("DeviceStatus")}
        missing = sum(statuses.get(name) != str(value) for name, value in meant.items())
        return not missing

    try:
        await until(all_shown, SHOWN_SECONDS)
    except TimeoutError:
        pass
    return time.monotonic() - began, missing


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--reports", type=int, default=100, help="reports while away")
    parser.add_argument("--away", type=float, default=4.0, help="seconds that the cloud stays away after them")
    return parser


if __name__ == "__main__":
    main("offline", _options(), measured)
