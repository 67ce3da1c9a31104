"""Twin updates over MQTT, QoS 1, from stock clients to the node and on to Kubernetes.

    .venv/bin/python bench/twin.py [--devices 100] [--updates 20000] [--rate 1000] [--minutes 3] [--plain]

Starts the whole system, and for each device a `mosquitto_pub` that speaks TLS with the gateway by a certificate of its
own; one `mosquitto_sub` at the port without TLS hears all results. First as fast as these can: how many updates are
answered a second (stored and fsynced at the edge), how many are lost, how long DeviceStatus takes to show the last one.
Then at a steady rate: how long an update waits for its result. With --minutes the steady rate goes on for so long, and
memory is looked at every ten seconds: `soak_grew_mb` is the end less the middle. Memory and CPU of every process, the
nats-server included.
"""

import argparse
import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import cluster
from doors import Doors
from measure import Figures, between, edge_mb, main, options, quantiles, say, usages
from stock import Publisher, listening, publishers, update

from canopy.testing.system import System
from canopy.testing.wait import until

EVENT = re.compile(rb'"event_id":"(\d+)"')
RESULTS = "$hw/events/device/default/+/twin/update/result"
WARM = 200
WARM_SECONDS, WARM_ROUNDS = 10.0, 3
LOOK_SECONDS = 10.0


class Bench:
    """The system, its stock clients, and the times of what was sent and answered."""

    def __init__(self, system: System, doors: Doors, names: list[str]) -> None:
        self.system, self.doors, self.names = system, doors, names
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.errors = 0
        self._next = 1

    def _heard(self, line: bytes, at: float) -> None:
        if (found := EVENT.search(line)) is not None:
            self.answered[int(found[1])] = at
            self.errors += b'"code"' in line

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[list[Publisher]]:
        """The devices' clients, each with an answer already; what they send from then on is counted."""
        results = listening([(self.doors.anybody, RESULTS)], self._heard)
        async with results, publishers(self.doors, self.names) as clients:
            await self._warm(list(clients.values()))
            self.sent.clear()
            self.answered.clear()
            yield list(clients.values())

    async def _warm(self, clients: list[Publisher]) -> None:
        """Until some updates of each are answered: whoever listens may have come later than the first of them."""
        for _ in range(WARM_ROUNDS):
            self.sent.clear()
            self.answered.clear()
            await self.publish(clients, max(WARM, len(clients)))
            await self.all_answered(WARM_SECONDS)
            if self.sent.keys() <= self.answered.keys():
                return
        raise RuntimeError(f"of {len(self.sent)} updates to begin with {len(self.answered)} were answered")

    async def publish(self, clients: list[Publisher], count: int, rate: float = 0.0) -> int:
        """`count` updates over all clients, as fast as possible or at `rate` a second; the number of the last one."""
        first, step = self._next, len(clients)
        self._next += count
        shares = [range(first + place, first + count, step) for place in range(step)]
        await asyncio.gather(*(self._one(*pair, rate / step) for pair in zip(clients, shares, strict=True)))
        return first + count - 1

    async def _one(self, client: Publisher, numbers: range, rate: float) -> None:
        began = time.monotonic()
        for i, number in enumerate(numbers):
            if rate and (ahead := began + i / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            self.sent[number] = time.monotonic()
            client.send(update(number))
            if i % 100 == 0:
                await client.drain()

    async def all_answered(self, seconds: float = 60.0) -> int:
        """How many of the sent ones were answered, when no more come."""
        try:
            await until(lambda: len(self.answered) >= len(self.sent), seconds)
        except TimeoutError:
            pass
        return len(self.answered)

    async def shown(self, last: int) -> float:
        """Seconds until a DeviceStatus shows the number `last`."""
        began = time.monotonic()
        async with self.system.kube() as kube:

            async def shows() -> bool:
                return any(cluster.reported(s) == str(last) for s in await kube.all("DeviceStatus"))

            await until(shows, 60)
        return time.monotonic() - began


async def measured(arguments: argparse.Namespace, folder: Path) -> Figures:
    async with System(folder, split=arguments.split) as system:
        doors = Doors(system, arguments.plain)
        async with system.kube() as kube:
            bench = Bench(system, doors, await cluster.known(doors, kube, arguments.devices))
        before, figures = usages(system), {"edge_idle_rss_mb": edge_mb(system)}
        say("twin: as fast as possible")
        figures |= await _fast(bench, arguments.updates)
        say(f"twin: {arguments.rate:g} a second")
        figures |= await _steady(bench, arguments.rate, arguments.seconds)
        if arguments.minutes:
            figures |= await _soak(bench, arguments.rate, arguments.minutes)
        return figures | {"edge_rss_mb": edge_mb(system), "processes": between(before, usages(system))}


async def _fast(bench: Bench, updates: int) -> Figures:
    async with bench.connected() as clients:
        began = time.monotonic()
        last = await bench.publish(clients, updates)
        answered = await bench.all_answered()
        took = max(bench.answered.values()) - began
    behind = await bench.shown(last)
    return {
        "answered_per_second": round(answered / took),
        "lost": updates - answered,
        "errors": bench.errors,
        "status_shows_last_after_s": round(behind, 2),
        "edge_after_fast_rss_mb": edge_mb(bench.system),
    }


async def _steady(bench: Bench, rate: float, seconds: float) -> Figures:
    async with bench.connected() as clients:
        await bench.publish(clients, int(rate * seconds), rate)
        await bench.all_answered(10)
    times = [bench.answered[n] - at for n, at in bench.sent.items() if n in bench.answered]
    return {"steady_lost": len(bench.sent) - len(times), **quantiles("result", times)}


async def _soak(bench: Bench, rate: float, minutes: float) -> Figures:
    """The steady rate for minutes; the memory of the edge on the way."""
    seen, ends, lost = [], time.monotonic() + minutes * 60, 0
    while time.monotonic() < ends:
        found = await _steady(bench, rate, LOOK_SECONDS)
        seen.append(edge_mb(bench.system))
        lost += found["steady_lost"]
        say(f"twin: soak: {len(seen) * LOOK_SECONDS:g} s, {seen[-1]:g} MB, p99 {found['result_p99_ms']:g} ms")
    return {
        "soak_lost": lost,
        "soak_most_rss_mb": max(seen),
        "soak_grew_mb": round(seen[-1] - seen[len(seen) // 2], 1),
    }


def _options() -> argparse.ArgumentParser:
    parser = options(__doc__)
    parser.add_argument("--updates", type=int, default=20_000, help="updates of the fast part")
    parser.add_argument("--devices", type=int, default=1, help="devices, each with a stock client of its own")
    parser.add_argument("--rate", type=float, default=1000.0, help="updates a second of the steady part, in all")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the steady part")
    parser.add_argument("--minutes", type=float, default=0.0, help="a soak after that, at the same rate")
    parser.add_argument(
        "--plain", action="store_true", help="devices by the port without TLS, as in the demo: what the front costs"
    )
    return parser


if __name__ == "__main__":
    main("twin", _options(), measured)
