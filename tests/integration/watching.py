"""What Kubernetes and the fleet API show of every device, looked at all the time: an older value never follows a newer
one. For stories of faults."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx

from canopy.testing.clients import Refused
from canopy.testing.system import System

LOOK_SECONDS = 0.05
AWAY = (Refused, httpx.TransportError, OSError)
Shown = dict[tuple[str, str], int]
"""(device, its uid) -> the value of `t`."""


async def statuses(kube: Any) -> Shown:
    """What the DeviceStatus objects show."""
    found: Shown = {}
    for one in await kube.all("DeviceStatus", "default"):
        meta, twins = one["metadata"], (one.get("status") or {}).get("twins") or []
        owner = (meta.get("ownerReferences") or [{"uid": ""}])[0]["uid"]
        for twin in filter(_is_t, twins):
            found[meta["name"], owner] = int(twin["reported"]["value"])
    return found


async def live(api: Any) -> Shown:
    """What the fleet API shows."""
    devices = (await api.get("devices?namespace=default"))["devices"]
    twins = {(d["name"], d["uid"]): (d["twin"] or {}).get("twins", {}).get("t", {}).get("reported") for d in devices}
    return {key: int(reported["value"]) for key, reported in twins.items() if reported}


def _is_t(twin: dict[str, Any]) -> bool:
    return twin["propertyName"] == "t" and bool(twin.get("reported"))


class Eyes:
    """`older` are the places where an older value followed a newer one, unless `forgive` was said of that time."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._last: dict[tuple[str, str, str], int] = {}
        self._forgiven_until = 0.0
        self.older: list[str] = []

    def forgive(self, seconds: float) -> None:
        """The hub has lost data, or someone edits a DeviceStatus: an older value may now be shown for so long."""
        self._forgiven_until = time.monotonic() + seconds

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Eyes"]:
        looks = [self._watch("DeviceStatus", self._system.kube, statuses)]
        looks += [self._watch(f"API {i}", lambda i=i: self._system.api(i), live) for i in self._replicas()]
        tasks = [asyncio.create_task(look) for look in looks]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _replicas(self) -> range:
        return range(1, self._system.replicas + 1)

    async def _watch(
        self, where: str, client: Callable[[], Any], read: Callable[[Any], Coroutine[Any, Any, Shown]]
    ) -> None:
        async with client() as one:
            while True:
                with contextlib.suppress(*AWAY):
                    self._see(where, await read(one))
                await asyncio.sleep(LOOK_SECONDS)

    def _see(self, where: str, shown: Shown) -> None:
        for (name, uid), value in shown.items():
            old = self._last.get((where, name, uid), 0)
            if value < old and time.monotonic() > self._forgiven_until:
                self.older.append(f"{where}: {name}: {value} after {old}")
            self._last[where, name, uid] = value
