"""The main job: a light's state from a real Modbus server to Kubernetes, and a desired state back."""

import pytest
from screens import why
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


@pytest.mark.one_mode("split")
async def test_a_light_that_is_gone_is_offline_and_comes_back(stories: Stories) -> None:
    port = await stories.system.light()
    process = stories.system.node().lights[-1]
    name = await stories.install_light(port)
    await stories.shows(name, {"switch": "false"}, 20)
    await process.kill()
    await until(lambda: _state_is(stories, name, "offline"), 20)
    await why(stories.system, name, "device", "does not answer its mapper", "power, cable, address")
    await stories.says(name, "Reachable", "False", "Unreachable")
    await process.start()
    await until(lambda: _state_is(stories, name, "online"), 40)
    await why(stories.system, name, "")
    await stories.says(name, "Reachable", "True", "AsItShouldBe")
    await stories.kube.delete("Device", name)


@pytest.mark.one_mode("split")
async def test_a_wrong_register_is_named_and_the_other_properties_go_on(stories: Stories) -> None:
    port = await stories.system.light()
    name = await stories.install_light(port, offsets={"brightness": 7})
    await stories.shows(name, {"switch": "false", "power": "0"}, 20)
    await why(stories.system, name, "device", "property brightness cannot be read", "the device itself answers")
    assert (await stories.says(name, "PropertiesRead", "False", "ReadFailed")).startswith("brightness: ")
    await light.flip("127.0.0.1", port, True)
    await until(lambda: _state_is(stories, name, "online"), 5)
    problems = (await stories.api.get(f"devices/default/{name}/twin"))["problems"]
    assert [(p["code"], p["property"]) for p in problems] == [("ReadFailed", "brightness")]
    await stories.kube.delete("Device", name)


async def _state_is(stories: Stories, name: str, state: str) -> bool:
    found = await stories.kube.get("DeviceStatus", name)
    return bool(found and found.get("status", {}).get("state") == state)
