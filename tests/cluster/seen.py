"""What was sent against what is seen: every change of every DeviceStatus, and what was answered to the devices."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import kubectl as k

LOOK_SECONDS = 0.1


def shown(status: dict[str, Any]) -> dict[str, str]:
    """The reported values of a DeviceStatus by property."""
    twins = (status.get("status") or {}).get("twins") or []
    return {t["propertyName"]: t["reported"]["value"] for t in twins if t.get("reported")}


class Seen:
    """The counting value `t` of each device as Kubernetes shows it. `older` names each that followed a newer one."""

    def __init__(self) -> None:
        self.last: dict[str, int] = {}
        self.older: list[str] = []
        self.changes = 0

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator["Seen"]:
        """Follow `kubectl get devicestatuses --watch`, in which no change is left out."""
        async with k.changes("devicestatuses", "-n", "default") as changes:
            reading = asyncio.create_task(self._follow(changes))
            try:
                yield self
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _follow(self, changes: "asyncio.Queue[dict[str, Any]]") -> None:
        while True:
            change = await changes.get()
            if change["type"] != "DELETED":
                self.see(change["object"])

    def see(self, status: dict[str, Any]) -> None:
        """Take one version of a DeviceStatus."""
        value = shown(status).get("t")
        if value is None:
            return
        name = status["metadata"]["name"]
        now, before = int(value), self.last.get(name, 0)
        self.changes += 1
        if now < before:
            self.older.append(f"{name}: {now} after {before}")
        self.last[name] = now

    async def reach(self, values: Mapping[str, int], seconds: float) -> float:
        """Wait until every device shows at least this; the seconds it took."""
        began = time.monotonic()
        while self.behind(values):
            if time.monotonic() - began > seconds:
                raise AssertionError(f"not seen in Kubernetes after {seconds:g} s: {'; '.join(self.behind(values))}")
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def behind(self, values: Mapping[str, int]) -> list[str]:
        """What is not there yet, in words."""
        here = {name: self.last.get(name, 0) for name in values}
        return [f"{name} shows {here[name]}, not {value}" for name, value in values.items() if here[name] < value]
