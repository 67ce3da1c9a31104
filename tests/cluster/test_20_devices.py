"""Claim: a device's report reaches Kubernetes and a wish of Kubernetes reaches the device: with an edge in a DaemonSet,
with one outside of the cluster, and with a Modbus light in a pod."""

import json
import time

import kubectl as k
import pytest
import yaml
from installation import K8S, Installation
from world import Edge, create, known, until, until_shown

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
WHERE = ("daemonset", "outside")


@pytest.fixture(params=WHERE)
async def edge(canopy: Installation, request: pytest.FixtureRequest) -> Edge:
    return (await canopy.edges())[WHERE.index(request.param)]


async def test_a_report_reaches_kubernetes_and_a_wish_reaches_the_device(
    canopy: Installation, edge: Edge, request: pytest.FixtureRequest
) -> None:
    where = request.node.callspec.params["edge"]
    name = f"counter-{where}"
    await create(name, edge.node)
    async with edge.talk(name) as device:
        await known(device)
        began = time.monotonic()
        assert "code" not in await device.update({"level": {"actual": {"value": "1"}, "metadata": {"type": "int"}}})
        await until_shown(name, {"level": "1"})
        up = time.monotonic() - began
        began = time.monotonic()
        await k.patch("device", name, {"spec": {"properties": [{"name": "level", "desired": {"value": "42"}}]}})
        assert (await device.next("twin/update/delta", 30))["delta"] == {"level": "42"}
        down = time.monotonic() - began
        assert "code" not in await device.update({"level": {"actual": {"value": "42"}}})
        await until_shown(name, {"level": "42"})
    canopy.figures.append(
        f"{where}: report to Kubernetes {up:.2f} s, wish to the device {down:.2f} s (kubectl included)"
    )


# --- a light in a pod -------------------------------------------------------------------------------------------------
LOOK = """
import asyncio, json
from canopy.testing import light
print(json.dumps(asyncio.run(light.read("127.0.0.1", 5020)).on))
"""


async def test_a_light_in_a_pod_is_switched_on_by_a_wish(canopy: Installation) -> None:
    text = (K8S / "components" / "light" / "device.yaml").read_text().replace("NODE", await canopy.node())
    model, device = yaml.safe_load_all(text)
    await k.apply(model, device)
    await until_shown("light", {"switch": "false"})
    device["spec"]["properties"][0]["desired"] = {"value": "true"}
    await k.apply(device)
    await until("the light's coil is on", _is_on, 30)
    await until_shown("light", {"switch": "true"})


async def _is_on() -> bool:
    (pod,) = await k.pods("app.kubernetes.io/name=light", k.EDGE)
    return bool(json.loads(await k.inside(k.named(pod), LOOK, namespace=k.EDGE)))
