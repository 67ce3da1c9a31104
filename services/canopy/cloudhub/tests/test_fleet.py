"""The fleet API of a real CloudHub: over HTTP, with a real hub and kubeserve behind it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from canopy.bus import AskTimeout
from canopy.contracts import catalogue as c
from canopy.contracts.wire import Beat, ReportBatch
from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.resource import DEVICE_MODELS, DEVICES, NAMESPACES
from canopy.testing.kubernetes import ApiServer, api_server, subjects
from canopy.testing.wait import until

pytestmark = pytest.mark.server

MODEL = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "DeviceModel",
    "metadata": {"name": "lamp", "namespace": "default"},
    "spec": {"properties": [{"name": "switch", "type": "BOOLEAN", "accessMode": "ReadWrite"}]},
}
DEVICE = {
    "apiVersion": "devices.kubeedge.io/v1beta1",
    "kind": "Device",
    "metadata": {"name": "light", "namespace": "default"},
    "spec": {"deviceModelRef": {"name": "lamp"}, "nodeName": "edge-1", "properties": [{"name": "switch"}]},
}


@pytest.fixture(params=subjects())
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(request.param, tmp_path / "kube") as server:
        yield server


@pytest.fixture
async def kube(server: ApiServer) -> AsyncIterator[Kube]:
    kube = await connect(server.kubeconfig)
    try:
        yield kube
    finally:
        await kube.close()


async def placed(kube: Kube) -> str:
    """The light is on edge-1; its uid."""
    await kube.create(DEVICE_MODELS, "default", json.dumps(MODEL).encode())
    uid: str = json.loads(await kube.create(DEVICES, "default", json.dumps(DEVICE).encode()))["metadata"]["uid"]
    return uid


def token_of(kubeconfig: Path) -> str:
    """The token of an admin, which a person would send."""
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


def client(unit: Any, token: str) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.AsyncClient(base_url=f"{unit.url}/api/v1", headers=headers, trust_env=False, timeout=20)


async def test_a_state_is_watched_and_a_desired_value_set_from_end_to_end(
    world: Any, server: ApiServer, kube: Kube
) -> None:
    uid = await placed(kube)
    unit = await world.unit(kubeconfig=str(server.kubeconfig), api_token="secret")
    edge = await world.edge("edge-1")
    await edge.hello()
    async with client(unit, "secret") as api, api.stream("GET", "/watch?namespace=default&name=light") as watch:
        assert watch.headers["content-type"].startswith("text/event-stream")
        lines = watch.aiter_lines()
        assert await anext(lines) == "event: synced"
        await edge.report(edge.report_of("light", "1", uid=uid))
        async with asyncio.timeout(10):
            while "event: twin" not in await anext(lines):
                pass
            twin = json.loads((await anext(lines)).removeprefix("data: "))
        assert (twin["uid"], twin["twins"]["t"]["reported"]["value"]) == (uid, "1")
        found = (await api.get("/devices/default/light")).json()
        assert (found["twin"]["revision"], found["status"], found["desired"]) == (1, None, {})
        answer = await api.put("/devices/default/light/desired", json={"switch": "true"})
        assert answer.status_code == 200, answer.text
        spec = json.loads(await kube.get(DEVICES, "default", "light"))["spec"]
        assert spec["properties"] == [{"name": "switch", "desired": {"value": "true"}}]
        refused = await api.put("/devices/default/light/desired", json={"switch": "perhaps"})
        assert (refused.status_code, refused.json()["error"]["field"]) == (400, "switch")
        assert (await api.get("/devices/default/dark")).status_code == 404
        assert (await api.get("/nodes")).json() == {"nodes": []}
        await world.stop()  # the watch does not hold it up
        rest = [line async for line in lines]
    assert "event: closed" in rest


async def test_the_callers_token_is_what_kubernetes_sees(world: Any, server: ApiServer, kube: Kube) -> None:
    await placed(kube)
    unit = await world.unit(kubeconfig=str(server.kubeconfig))
    async with client(unit, token_of(server.kubeconfig)) as mine, client(unit, "wrong") as wrong:
        assert [d["name"] for d in (await mine.get("/devices")).json()["devices"]] == ["light"]
        for path in ("/devices", "/devices/default/light", "/nodes", "/watch"):
            answer = await wrong.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, 401)


async def test_a_hello_names_the_cluster(world: Any, server: ApiServer, kube: Kube) -> None:
    uid = json.loads(await kube.get(NAMESPACES, "", "kube-system"))["metadata"]["uid"]
    await world.unit(kubeconfig=str(server.kubeconfig))
    edge = await world.edge("edge-1")

    async def named() -> str:
        return str((await edge.hello()).cluster)

    assert await until(named) == uid


async def test_what_is_in_hand_when_a_replica_ends_is_finished(world: Any) -> None:
    await world.unit()
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    batches = [
        edge.stamped(ReportBatch(reports=[edge.report_of(f"d{i}-{k}", str(k)) for k in range(100)])) for i in range(30)
    ]
    asks = [asyncio.create_task(edge.bus.ask(c.REPORT, b, timeout=3, node="edge-1")) for b in batches]
    await asyncio.wait(asks, return_when=asyncio.FIRST_COMPLETED)
    await world.stop(0)
    answers = await asyncio.gather(*asks, return_exceptions=True)
    lost = [i for i, a in enumerate(answers) if isinstance(a, BaseException)]
    assert all(r.outcome == "ok" for a in answers if not isinstance(a, BaseException) for r in a.results)
    for i in lost:  # what the ending replica had not begun is asked again, as EdgeHub does
        again = await _answered(edge, batches[i])
        assert all(r.outcome == "ok" for r in again.results)
    every = edge.entries(*(r for b in batches for r in b.reports)).hash

    async def equal() -> bool:
        return not (await edge.ask(c.BEAT, Beat(hash=every))).page

    assert await until(equal)


async def _answered(edge: Any, batch: ReportBatch) -> Any:
    """The answer to an ask that is repeated: the replica that is left may have a long queue."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await edge.bus.ask(c.REPORT, batch, timeout=3, node="edge-1")
            except AskTimeout:
                continue


async def test_without_kubernetes_only_the_api_is_away(world: Any) -> None:
    unit = await world.unit()
    edge = await world.edge("edge-1")
    assert (await edge.hello()).verdict == "ok"
    async with client(unit, "any") as api:
        answer = await api.get("/devices")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503)
        assert (await api.get(f"{unit.url}/healthz")).text == "ok\n"
