"""Many Devices to one node: how long until the edge has them all.

    .venv/bin/python bench/many.py [--devices 2000] [--runs 3] [--json]

`waiting`: they are created while the link is cut; the time runs from the link's return until the edge's DeviceTwin has
said the last one over MQTT (membership/updated), which it reads only from a set that is proven equal to the cloud's.
`live`: they are created while the edge is connected, as fast as kubeserve takes them (`live_created_s`); the time runs
from the last one's creation. Then each is looked for in membership/get (`missing`).
"""

import argparse
import asyncio
import json
import time
from pathlib import Path

import cluster
from doors import Door, Doors
from measure import Figures, between, edge_mb, main, options, say, usages
from stock import MEMBERSHIP, Members, listening

from canopy.testing.clients import KubeClient
from canopy.testing.system import System
from canopy.testing.wait import until

ASK_SECONDS = 5


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    waiting = await _run(arguments, folder / "waiting", live=False)
    return waiting | await _run(arguments, folder / "live", live=True)


async def _run(arguments: argparse.Namespace, folder: Path, live: bool) -> Figures:
    wanted, members, word = cluster.names(arguments.devices), Members(), "live" if live else "waiting"
    async with System(folder, split=arguments.split) as system, system.kube() as kube:
        doors, before = Doors(system), usages(system)
        async with listening([(await doors.app(), MEMBERSHIP)], members.heard):
            if not live:
                await system.node().link.cut()
            say(f"many: {word}: {arguments.devices} Devices")
            created = await _created(kube, wanted)
            began = time.monotonic()
            if not live:
                await system.node().link.join()
            await until(lambda: len(members.names) >= len(wanted), cluster.KNOWN_SECONDS)
        missing = set(wanted) - await _held(system.node().name, await doors.device(wanted[0]))
        return {
            f"{word}_s": round(max(0.0, members.last - began), 2),
            f"{word}_created_s": round(created, 2),
            f"{word}_missing": len(missing),
            f"{word}_edge_rss_mb": edge_mb(system),
            f"{word}_processes": between(before, usages(system)),
        }


async def _created(kube: KubeClient, wanted: list[str]) -> float:
    began = time.monotonic()
    await kube.apply(cluster.MODEL)
    await cluster.create(kube, map(cluster.device, wanted))
    return time.monotonic() - began


async def _held(node: str, door: Door) -> set[str]:
    """The devices that membership/get answers, in several pieces, to one of them."""
    topic = f"$hw/events/node/{node}/membership/get"
    command = ("mosquitto_rr", *door, "-V", "mqttv311", "-t", topic, "-e", f"{topic}/result", "-m", '{"event_id":"b"}')
    process = await asyncio.create_subprocess_exec(*command, "-W", str(ASK_SECONDS), stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    return {device["name"] for line in out.splitlines() for device in json.loads(line)["devices"]}


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--devices", type=int, default=2000, help="Devices, all of one node")
    return parser


if __name__ == "__main__":
    main("many", _options(), measured)
