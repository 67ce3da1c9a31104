"""Device states through one CloudHub: what nodes send at once, stored in TWINS and answered.

    .venv/bin/python bench/states.py [--nodes 4] [--devices 500] [--batches 100] [--runs 3] [--json]

Starts a hub, a CloudHub and the leaves of some nodes, and plays their EdgeHubs: each says hello and sends one batch
after the other, every state new. `states_per_cpu_second` is of the process of CloudHub alone, and the figure to look at
where the machine is shared: players, leaves and hub take their part of it too.
"""

import argparse
import asyncio
import time
from pathlib import Path

import msgspec
from measure import Figures, between, main, options, quantiles, say, usage

from canopy.bus import Bus
from canopy.contracts.catalogue import HELLO, REPORT
from canopy.contracts.wire import DeviceState, Hello, Report, ReportBatch, Side, TwinState, encode
from canopy.identity import ids
from canopy.testing.child import HOST, free_port
from canopy.testing.domain import TD
from canopy.testing.processes import Process
from canopy.testing.world import World, open_world

ASK_SECONDS = 10.0
WARM = 2


class Player:
    """An EdgeHub with nothing behind it."""

    def __init__(self, node: str, bus: Bus, devices: int) -> None:
        self.node, self._bus = node, bus
        self._names = [f"device-{number}" for number in range(devices)]
        self._session = self._revision = 0
        self.took: list[float] = []

    @classmethod
    async def open(cls, world: World, name: str, devices: int) -> "Player":
        """With a leaf of its own, and a session."""
        node = await world.node(name)
        await node.start(world.hub.leaf_url())
        self = cls(name, await node.bus("edgehub"), devices)
        while not self._session:
            self._session = await self._greeted()
        return self

    async def _greeted(self) -> int:
        try:
            return (await self._bus.ask(HELLO, Hello(), timeout=ASK_SECONDS, node=self.node)).session
        except Exception as e:
            say(f"states: {self.node}: {e}")
            await asyncio.sleep(0.5)
            return 0

    async def send(self, batches: int) -> None:
        """One after the other. Raises RuntimeError unless each state is stored."""
        for _ in range(batches):
            self._revision += 1
            batch = ReportBatch(session=self._session, n=self._revision, reports=[*map(self._report, self._names)])
            began = time.monotonic()
            answer = await self._bus.ask(REPORT, batch, timeout=ASK_SECONDS, node=self.node)
            self.took.append(time.monotonic() - began)
            if answer.verdict != "ok" or any(result.outcome != "ok" for result in answer.results):
                raise RuntimeError(f"{self.node}: {answer.verdict} {answer.reason}: {answer.results[:1]}")

    def _report(self, name: str) -> Report:
        twins = {t: TwinState(reported=Side(value=str(self._revision), timestamp=1), type="int") for t in ("t", "u")}
        content = encode(DeviceState(twins=twins, state="online", last_online=1))
        return Report(
            namespace="default",
            name=name,
            uid=f"uid-{name}",
            device_revision=1,
            revision=self._revision,
            content=msgspec.Raw(content),
        )


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    nodes = [f"edge-{number}" for number in range(arguments.nodes)]
    async with open_world(folder) as world:
        cloudhub = await _cloudhub(world)
        world.stack.push_async_callback(cloudhub.stop)
        await cloudhub.start()
        players = [await Player.open(world, node, arguments.devices) for node in nodes]
        await asyncio.gather(*(player.send(WARM) for player in players))
        for player in players:
            player.took.clear()
        pids = {"cloudhub": cloudhub.pid, "hub": world.hub.server.pid}
        before, began = {name: usage(pid) for name, pid in pids.items()}, time.monotonic()
        say(f"states: {arguments.batches} batches of {arguments.devices}, {len(nodes)} nodes at once")
        await asyncio.gather(*(player.send(arguments.batches // len(nodes)) for player in players))
        seconds = time.monotonic() - began
        used = between(before, {name: usage(pid) for name, pid in pids.items()})
    states = arguments.batches // len(nodes) * len(nodes) * arguments.devices
    return {
        "states_per_second": round(states / seconds),
        "states_per_cpu_second": round(states / used["cloudhub"]["cpu_seconds"]),
        **quantiles("batch", (one for player in players for one in player.took)),
        "processes": used,
    }


async def _cloudhub(world: World) -> Process:
    health = free_port()
    own = {
        "CANOPY_NATS_URL": world.hub.client_url,
        "CANOPY_IDENTITY_DIR": str(await world.files(ids.cloud(TD, "cloudhub"))),
        "CANOPY_TRUST_DOMAIN": TD,
        "CANOPY_DATA_DIR": str(world.folder / "cloudhub"),
        "CANOPY_HEALTH_LISTEN": f"{HOST}:{health}",
        "CANOPY_CLOUDHUB_API_LISTEN": f"{HOST}:0",
        "CANOPY_CLOUDHUB_API_TOKEN": "bench",
    }
    return Process("cloudhub", ("canopy.launch", "cloudhub"), world.folder / "cloudhub.log", own, health)


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--nodes", type=int, default=4, help="nodes that send at once")
    parser.add_argument("--devices", type=int, default=500, help="devices a node, all in each batch")
    parser.add_argument("--batches", type=int, default=100, help="batches, of all nodes")
    return parser


if __name__ == "__main__":
    main("states", _options(), measured)
