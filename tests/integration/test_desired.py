"""The desired path: Kubernetes says what should be, the edge repeats it until the device agrees."""

import asyncio
from typing import Any

import pytest
from screens import canopy, why
from stories import Stories
from talk import Talk

from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.one_mode("split")]


def _name(one: Talk) -> str:
    return one.base.rpartition("/")[2]


async def _desire(stories: Stories, name: str, desired: dict[str, str]) -> None:
    properties = [{"name": k, "desired": {"value": v}} for k, v in desired.items()]
    await stories.kube.patch("Device", name, {"spec": {"properties": properties}})


async def test_a_desired_value_is_repeated_until_the_device_agrees(stories: Stories, one: Talk) -> None:
    await one.update({"level": {"actual": {"value": "1"}, "metadata": {"type": "int"}}})
    await _desire(stories, _name(one), {"level": "42"})
    for _ in range(3):
        assert (await one.next("twin/update/delta"))["delta"] == {"level": "42"}
    await one.update({"level": {"actual": {"value": "42"}}})
    await one.get()
    mark = len(one.heard)
    await asyncio.sleep(3)  # nothing to wait for: silence is what is tested, over more than one repetition
    assert [s for s, _ in one.heard[mark:] if s == "twin/update/delta"] == []
    await stories.shows(_name(one), {"level": "42"}, 10)


async def test_an_edit_of_one_property_does_not_impose_the_old_value_of_another(stories: Stories, one: Talk) -> None:
    name = _name(one)
    await _desire(stories, name, {"level": "10", "mode": "day"})
    await _delta_is(one, {"level": "10", "mode": "day"})
    await one.update({"level": {"expected": {"value": "20"}}})
    await _delta_is(one, {"level": "20", "mode": "day"})
    await _desire(stories, name, {"level": "10", "mode": "night"})
    await _delta_is(one, {"level": "20", "mode": "night"})


async def test_a_value_expected_at_the_edge_shows_as_observed_desired_and_leaves_the_spec_alone(
    stories: Stories, one: Talk
) -> None:
    name = _name(one)
    await one.update({"mode": {"expected": {"value": "eco"}}})

    async def observed() -> Any:
        found = await stories.kube.get("DeviceStatus", name)
        twins = (found or {}).get("status", {}).get("twins", [])
        return [t["observedDesired"]["value"] for t in twins if t["propertyName"] == "mode" and "observedDesired" in t]

    assert await until(observed, 10) == ["eco"]
    spec = await stories.kube.get("Device", name)
    assert spec is not None and not spec["spec"].get("properties")


async def test_what_is_read_only_or_out_of_range_is_refused_with_the_field(stories: Stories, one: Talk) -> None:
    refused = await one.update({"serial": {"expected": {"value": "x"}}})
    assert refused["code"] == 400 and "serial" in refused["reason"] and "ReadOnly" in refused["reason"]
    refused = await one.update({"level": {"expected": {"value": "101"}}})
    assert refused["code"] == 400 and "level" in refused["reason"] and "100" in refused["reason"]
    assert "code" not in await one.update({"level": {"expected": {"value": "100"}}})


async def test_a_desired_value_that_the_edge_refuses_shows_in_kubernetes_until_it_is_mended(
    stories: Stories, one: Talk
) -> None:
    name = _name(one)
    await _desire(stories, name, {"level": "101"})
    await why(stories.system, name, "desired", "the edge refuses level=101", "kubectl get devicemodel thing")
    message = await stories.says(name, "DesiredAccepted", "False", "DesiredRefused")
    assert "level" in message and "100" in message
    await _desire(stories, name, {"level": "100"})
    await stories.says(name, "DesiredAccepted", "True", "AsItShouldBe")


async def test_an_unknown_model_is_named_with_those_that_there_are(stories: Stories) -> None:
    await stories.create("no-model")
    await stories.kube.patch("Device", "no-model", {"spec": {"deviceModelRef": {"name": "thin"}}})
    await why(stories.system, "no-model", "kubernetes", "there is no DeviceModel thin", "is it thing?")
    await stories.kube.delete("Device", "no-model")
    screen = await canopy(stories.system, "device", "why", "no-modem")
    assert screen.code == 3 and "there is no Device no-modem" in screen.text


async def _delta_is(one: Talk, wanted: dict[str, str]) -> None:
    async with asyncio.timeout(15):
        while (await one.next("twin/update/delta", 15))["delta"] != wanted:
            pass
