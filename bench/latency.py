"""How long a change takes between a device and the Kubernetes API, one at a time on an idle system.

    .venv/bin/python bench/latency.py [--changes 60] [--runs 3] [--json]

`up`: from a stock MQTT client's report until a watch of the API shows it in DeviceStatus. `down`: from a PATCH of the
Device until the MQTT client has the delta. `coil`: from such a PATCH until the coil of a Modbus light has changed.
Reports go round ten devices, since DeviceStatus is written once a second a device at most. The API server is kubeserve,
whose own time is in the figures.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any

import cluster
import yaml
from doors import Doors
from measure import Figures, between, main, options, quantiles, say, usages
from pymodbus.client import AsyncModbusTcpClient
from stock import hearing, publishers, update

from canopy.testing.child import HOST
from canopy.testing.clients import KubeClient
from canopy.testing.system import System
from canopy.testing.wait import until

DEVICES = 10
SPACED_SECONDS = 0.25
QUIET_SECONDS = 3.0
DELTAS = "twin/update/delta"
EXAMPLES = Path(__file__).parents[1] / "examples"


class Arrivals:
    """When each value was first seen."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def status(self, kind: str, found: dict[str, Any], at: float) -> None:
        """A change of a DeviceStatus."""
        self.at.setdefault(cluster.reported(found), at)

    def delta(self, line: bytes, at: float) -> None:
        """A delta at a device."""
        self.at.setdefault(json.loads(line)["delta"].get("t", ""), at)

    async def of(self, value: int) -> float:
        """When it came; waits for it."""
        await until(lambda: str(value) in self.at)
        return self.at[str(value)]


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    async with System(folder, split=arguments.split) as system, system.kube() as kube:
        doors = Doors(system)
        names = await cluster.known(doors, kube, DEVICES)
        light = await _light(system, kube)
        await asyncio.sleep(QUIET_SECONDS)
        before = usages(system)
        say("latency: device -> Kubernetes API")
        up = await _up(doors, kube, names, arguments.changes)
        say("latency: Kubernetes API -> device")
        down = await _down(doors, kube, names, arguments.changes)
        say("latency: Kubernetes API -> the light's coil")
        coil = await _coil(kube, light, arguments.changes)
        figures = quantiles("up", up) | quantiles("down", down) | quantiles("coil", coil)
        return figures | {"processes": between(before, usages(system))}


async def _up(doors: Doors, kube: KubeClient, names: list[str], changes: int) -> list[float]:
    seen, took = Arrivals(), []
    async with cluster.watching(kube, "DeviceStatus", seen.status), publishers(doors, names) as clients:
        await asyncio.sleep(1)
        for value in range(1, changes + 1):
            began = time.monotonic()
            clients[names[value % len(names)]].send(update(value))
            took.append(await seen.of(value) - began)
            await asyncio.sleep(SPACED_SECONDS)
    return took


async def _down(doors: Doors, kube: KubeClient, names: list[str], changes: int) -> list[float]:
    seen, took = Arrivals(), []
    async with hearing(doors, names, DELTAS, seen.delta):
        for value in range(10_001, 10_001 + changes):
            name = names[value % len(names)]
            began = time.monotonic()
            await kube.patch("Device", name, {"spec": cluster.device(name, value)["spec"]})
            took.append(await seen.of(value) - began)
            await asyncio.sleep(SPACED_SECONDS)
    return took


async def _light(system: System, kube: KubeClient) -> int:
    """A Modbus light whose device is online; its port."""
    port = await system.light()
    device = yaml.safe_load(await asyncio.to_thread((EXAMPLES / "light-device.yaml").read_text))
    device["spec"]["protocol"]["configData"] |= {"ip": HOST, "port": port}
    await kube.apply(await asyncio.to_thread((EXAMPLES / "light-model.yaml").read_text))
    await kube.apply(device)

    async def online() -> bool:
        found = await kube.get("DeviceStatus", "light") or {}
        return bool((found.get("status") or {}).get("state") == "online")

    await until(online)
    return port


async def _coil(kube: KubeClient, port: int, changes: int) -> list[float]:
    device = await kube.get("Device", "light") or {}
    properties, took = device["spec"]["properties"], []
    client = AsyncModbusTcpClient(HOST, port=port, timeout=3, reconnect_delay=0)
    await client.connect()

    async def is_so(wanted: bool) -> bool:
        return bool((await client.read_coils(0, device_id=1)).bits[0] is wanted)

    for number in range(changes):
        wanted = number % 2 == 0
        value = {"desired": {"value": json.dumps(wanted)}}
        changed = [p | value if p["name"] == "switch" else p for p in properties]
        began = time.monotonic()
        await kube.patch("Device", "light", {"spec": {"properties": changed}})
        while not await is_so(wanted):
            if time.monotonic() > began + 20:
                raise TimeoutError("the coil does not change")
            await asyncio.sleep(0.001)
        took.append(time.monotonic() - began)
        await asyncio.sleep(SPACED_SECONDS)
    client.close()
    return took


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--changes", type=int, default=60, help="changes of each kind")
    return parser


if __name__ == "__main__":
    main("latency", _options(), measured)
