"""Twin updates over MQTT, QoS 1, from stock clients to the node and on to Kubernetes.

    .venv/bin/python bench/twin.py [--updates 20000] [--devices 1] [--rate 1000] [--split] [--json]

Starts the whole system. First as fast as `mosquitto_pub` can: how many updates a second are answered (stored and
fsynced at the edge), how many are lost, how long DeviceStatus takes to show the last one. Then at a steady rate: how
long an update waits for its result. Needs Debian's mosquitto-clients.
"""

import argparse
import asyncio
import json
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from measure import between, quantiles, report, usages

from canopy.testing.system import System
from canopy.testing.wait import until

EVENT = re.compile(rb'"event_id":"(\d+)"')
TOPIC = "$hw/events/device/default/{}/twin/update"
WARM = 200


class Bench:
    """The system, its stock clients, and the times of what was sent and answered."""

    def __init__(self, system: System, devices: int) -> None:
        self.system, self.names = system, [f"bench-{i}" for i in range(devices)]
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.errors = 0

    async def prepare(self) -> None:
        """Devices in Kubernetes, known at the edge."""
        async with self.system.kube() as kube:
            for name in self.names:
                await kube.apply(_device(name))
        port = str(self.system.node().mqtt_port)

        async def known() -> bool:
            out = await _run(
                "mosquitto_rr",
                "-V",
                "mqttv311",
                "-p",
                port,
                "-W",
                "2",
                "-t",
                f"$hw/events/device/default/{self.names[-1]}/twin/get",
                "-e",
                f"$hw/events/device/default/{self.names[-1]}/twin/get/result",
                "-m",
                '{"event_id":"k"}',
            )
            return b'"twin"' in out

        await until(known, 60)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Take the time of every result."""
        topic = "$hw/events/device/default/+/twin/update/result"
        sub = await asyncio.create_subprocess_exec(
            "mosquitto_sub",
            "-p",
            str(self.system.node().mqtt_port),
            "-q",
            "0",
            "-t",
            topic,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
        )
        assert sub.stdout is not None
        task = asyncio.create_task(self._read(sub.stdout))
        await asyncio.sleep(1)  # until its subscription is there; nothing tells
        try:
            yield
        finally:
            sub.terminate()
            await sub.wait()
            task.cancel()

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            if (found := EVENT.search(line)) is not None:
                self.answered[int(found[1])] = time.monotonic()
                self.errors += b'"code"' in line

    async def publish(self, first: int, count: int, rate: float = 0.0) -> None:
        """`count` updates over all devices, as fast as possible or at `rate` a second; one stock client a device."""
        share = [range(first + i, first + count, len(self.names)) for i in range(len(self.names))]
        await asyncio.gather(
            *(self._one(name, numbers, rate / len(self.names)) for name, numbers in zip(self.names, share, strict=True))
        )

    async def _one(self, name: str, numbers: range, rate: float) -> None:
        port = str(self.system.node().mqtt_port)
        pub = await asyncio.create_subprocess_exec(
            "mosquitto_pub", "-p", port, "-q", "1", "-l", "-t", TOPIC.format(name), stdin=asyncio.subprocess.PIPE
        )
        assert pub.stdin is not None
        began = time.monotonic()
        for i, number in enumerate(numbers):
            if rate and (ahead := began + i / rate - time.monotonic()) > 0:
                await asyncio.sleep(ahead)
            self.sent[number] = time.monotonic()
            pub.stdin.write(_update(number))
            if i % 100 == 0:
                await pub.stdin.drain()
        pub.stdin.close()
        await pub.wait()

    async def all_answered(self, seconds: float = 60.0) -> int:
        """How many of the sent ones were answered, when no more come."""
        try:
            await until(lambda: len(self.answered) >= len(self.sent), seconds)
        except TimeoutError:
            pass
        return len(self.answered)

    async def shown(self, last: int) -> float:
        """Seconds until the DeviceStatus of the device that `last` went to shows it."""
        began = time.monotonic()
        name = self.names[last % len(self.names)] if len(self.names) > 1 else self.names[0]
        async with self.system.kube() as kube:

            async def shows() -> bool:
                found: Any = await kube.get("DeviceStatus", name)
                return bool(found) and any(
                    t.get("reported", {}).get("value") == str(last) for t in found["status"].get("twins", [])
                )

            await until(shows, 60)
        return time.monotonic() - began


def _update(number: int) -> bytes:
    body = {"event_id": str(number), "twin": {"t": {"actual": {"value": str(number)}, "metadata": {"type": "int"}}}}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def _device(name: str) -> dict[str, Any]:
    spec = {"nodeName": "edge-1", "protocol": {"protocolName": "mqtt"}}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "devices.kubeedge.io/v1beta1", "kind": "Device", "metadata": metadata, "spec": spec}


async def _run(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    out, _ = await process.communicate()
    return out


async def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        async with System(Path(folder), split=arguments.split) as system:
            bench = Bench(system, arguments.devices)
            await bench.prepare()
            idle = usages(system)
            fast = await _fast(bench, arguments.updates)
            steady = await _steady(bench, arguments)
            processes = between(idle, usages(system))
    edge = sum(p["rss_mb"] for name, p in processes.items() if name.startswith("edge-1/"))
    return {
        "devices": arguments.devices,
        "split": arguments.split,
        **fast,
        **steady,
        "edge_rss_mb": edge,
        "processes": processes,
    }


async def _fast(bench: Bench, updates: int) -> dict[str, Any]:
    async with bench.listening():
        await bench.publish(0, WARM)
        await bench.all_answered()
        bench.sent.clear()
        bench.answered.clear()
        began = time.monotonic()
        await bench.publish(WARM, updates)
        answered = await bench.all_answered()
        took = max(bench.answered.values()) - began
    behind = await bench.shown(WARM + updates - 1)
    return {
        "updates": updates,
        "answered_per_second": round(answered / took),
        "lost": updates - answered,
        "errors": bench.errors,
        "status_shows_last_after_s": round(behind, 2),
    }


async def _steady(bench: Bench, arguments: argparse.Namespace) -> dict[str, Any]:
    bench.sent.clear()
    bench.answered.clear()
    first, count = 10_000_000, int(arguments.rate * arguments.seconds)
    async with bench.listening():
        await bench.publish(first, count, arguments.rate)
        await bench.all_answered(10)
    times = [bench.answered[n] - at for n, at in bench.sent.items() if n in bench.answered]
    found = quantiles(times)
    return {
        "steady_rate": arguments.rate,
        "steady_lost": count - len(times),
        **{f"result_{k}": v for k, v in found.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=20_000, help="updates of the fast part")
    parser.add_argument("--devices", type=int, default=1, help="devices, each with a stock client of its own")
    parser.add_argument("--rate", type=float, default=1000.0, help="updates a second of the steady part")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the steady part")
    parser.add_argument("--split", action="store_true", help="a process a unit")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    if shutil.which("mosquitto_pub") is None:
        parser.error("mosquitto_pub is missing: install Debian's mosquitto-clients")
    report(asyncio.run(measured(arguments)), arguments.json)


if __name__ == "__main__":
    main()
