"""The main job: a light's state from a real Modbus server to Kubernetes, and a desired state back."""

import pytest
from stories import Stories

from canopy.testing import light
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_a_light_switches_and_says_so(stories: Stories) -> None:
    port = await stories.system.light()
    name = await stories.install_light(port)
    await stories.shows(name, {"switch": "false", "power": "0"}, 20)

    await stories.api.set_desired("default", name, {"switch": "true", "brightness": "50"})
    await until(lambda: _is_on(port), 5)
    await stories.shows(name, {"switch": "true", "brightness": "50", "power": "4"}, 10)

    await light.flip("127.0.0.1", port, False)
    await until(lambda: _is_on(port), 10)  # what is desired is written again until the device agrees
    await stories.kube.delete("Device", name)


async def _is_on(port: int) -> bool:
    return (await light.read("127.0.0.1", port)).on


async def test_a_light_that_is_gone_is_offline_and_comes_back(stories: Stories) -> None:
    port = await stories.system.light()
    process = stories.system.node().lights[-1]
    name = await stories.install_light(port)
    await stories.shows(name, {"switch": "false"}, 20)
    await process.kill()
    await until(lambda: _state_is(stories, name, "offline"), 20)
    await process.start()
    await until(lambda: _state_is(stories, name, "online"), 40)
    await stories.kube.delete("Device", name)


async def _state_is(stories: Stories, name: str, state: str) -> bool:
    found = await stories.kube.get("DeviceStatus", name)
    return bool(found and found.get("status", {}).get("state") == state)
