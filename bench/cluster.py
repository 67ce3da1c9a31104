"""What the benchmarks have in Kubernetes: Devices with one integer property `t`, and watches of what is written."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from doors import Doors
from stock import MEMBERSHIP, Members, listening

from canopy.testing.clients import KubeClient, path_of
from canopy.testing.wait import until

AT_ONCE = 16
KNOWN_SECONDS = 120.0
MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "bench", "namespace": "default"},
    "spec": {"protocol": "mqtt", "properties": [{"name": "t", "type": "INT", "accessMode": "ReadWrite"}]},
}

Json = dict[str, Any]
Event = Callable[[str, Json, float], None]


def device(name: str, desired: int | None = None) -> Json:
    """A Device of the first node."""
    properties = [{"name": "t"} | ({} if desired is None else {"desired": {"value": str(desired)}})]
    return {
        "apiVersion": "devices.kubeedge.io/v1beta1",
        "kind": "Device",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "deviceModelRef": {"name": "bench"},
            "nodeName": "edge-1",
            "protocol": {"protocolName": "mqtt"},
            "properties": properties,
        },
    }


def names(count: int) -> list[str]:
    return [f"bench-{number}" for number in range(count)]


async def create(kube: KubeClient, objects: Iterable[Json]) -> None:
    """Create them, several at once."""
    left = iter(objects)

    async def some() -> None:
        for one in left:
            await kube.call("POST", path_of(one["kind"], "", one["metadata"]["namespace"]), one)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())


async def known(doors: Doors, kube: KubeClient, count: int) -> list[str]:
    """Create so many devices and wait until the edge says that it has them, and has given them certificates; their
    names."""
    wanted, members = names(count), Members()
    async with listening([(await doors.app(), MEMBERSHIP)], members.heard):
        await kube.apply(MODEL)
        await create(kube, map(device, wanted))
        await until(lambda: members.names >= set(wanted), KNOWN_SECONDS)
    for name in wanted:
        await doors.device(name)
    return wanted


@asynccontextmanager
async def watching(kube: KubeClient, kind: str, event: Event) -> AsyncIterator[None]:
    """Call `event(type, object, time)` for each change that a watch of the API shows from now on."""
    version = (await kube.call("GET", path_of(kind, "", "")))["metadata"]["resourceVersion"]
    query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": "3600"}
    async with kube.http.stream("GET", path_of(kind, "", ""), params=query, timeout=None) as answer:
        answer.raise_for_status()

        async def read() -> None:
            async for line in answer.aiter_lines():
                found = json.loads(line)
                event(found["type"], found["object"], time.monotonic())

        task = asyncio.create_task(read())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


def reported(status: Json) -> str:
    """The value of `t` that a DeviceStatus shows; "" if none."""
    for twin in (status.get("status") or {}).get("twins") or ():
        if twin["propertyName"] == "t":
            return str((twin.get("reported") or {}).get("value", ""))
    return ""


async def revision(kube: KubeClient) -> int:
    """How many writes the API server has taken, of all kinds."""
    return int((await kube.call("GET", path_of("Namespace", "")))["metadata"]["resourceVersion"])
