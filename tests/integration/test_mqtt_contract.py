"""KubeEdge's MQTT contract, case by case (B1 ...), with a stock MQTT client against the real gateway."""

import time
from typing import Any

import pytest
from stories import Stories
from talk import Talk, device, talk

pytestmark = pytest.mark.server

INT = {"type": "int"}


def actual(value: str, kind: str = "int") -> dict[str, Any]:
    return {"actual": {"value": value}, "metadata": {"type": kind}}


async def test_b1_the_first_report_of_a_twin_is_answered_and_documented(one: Talk) -> None:
    before = int(time.time() * 1000)
    result = await one.update({"t": actual("1")}, event="e1")
    assert "code" not in result and before <= result["timestamp"] <= time.time() * 1000
    twin = result["twin"]["t"]
    assert twin["actual"]["value"] == "1"
    assert before <= twin["actual"]["metadata"]["timestamp"] <= time.time() * 1000
    assert twin["optional"] is True and twin["metadata"]["type"] == "int"
    document = await one.next("twin/update/document")
    assert document["event_id"] == "e1"
    assert document["twin"]["t"]["last"] is None
    assert document["twin"]["t"]["current"]["actual"]["value"] == "1"
    await one.get()
    assert one.silent("twin/update/delta")


async def test_b2_the_next_report_shows_the_last_value_and_the_current(one: Talk) -> None:
    await one.update({"t": actual("1")})
    await one.next("twin/update/document")
    await one.update({"t": actual("2")})
    document = (await one.next("twin/update/document"))["twin"]["t"]
    assert (document["last"]["actual"]["value"], document["current"]["actual"]["value"]) == ("1", "2")


async def test_b4_and_b5_an_expected_value_is_said_as_delta_until_the_device_has_it(one: Talk) -> None:
    await one.update({"t": actual("1")})
    await one.next("twin/update/document")
    await one.update({"t": {"expected": {"value": "5"}}})
    await one.next("twin/update/document")
    delta = await one.next("twin/update/delta")
    assert delta["delta"] == {"t": "5"}
    assert delta["twin"]["t"]["expected"]["value"] == "5"
    order = [s for s, _ in one.heard if s.startswith("twin/update/")]
    assert order.index("twin/update/result") < order.index("twin/update/document") < order.index("twin/update/delta")
    await one.update({"t": actual("5")})
    await one.next("twin/update/document")
    await one.get()
    said = [s for s, _ in one.heard]
    agreed = len(said) - said[::-1].index("twin/update/result")  # before that it may have been repeated
    assert "twin/update/delta" not in said[agreed:]


async def test_b6_a_delta_lists_every_key_that_differs(one: Talk) -> None:
    await one.update({"a": actual("1"), "b": actual("1"), "c": actual("1")})
    await one.update({"a": {"expected": {"value": "2"}}, "b": {"expected": {"value": "3"}}})
    assert (await one.next("twin/update/delta"))["delta"] == {"a": "2", "b": "3"}
    mark = len(one.heard)
    await one.update({"c": actual("9")})
    await one.next("twin/update/delta")
    deltas = [p["delta"] for s, p in one.heard[mark:] if s == "twin/update/delta"]
    assert deltas[-1] == {"a": "2", "b": "3"}


async def test_b7_a_value_of_another_type_is_refused_and_changes_nothing(one: Talk) -> None:
    await one.update({"t": actual("1")})
    result = await one.update({"t": actual("x")})
    assert result["code"] == 400 and "the value is not int or integer" in result["reason"]
    assert (await one.get())["t"]["actual"]["value"] == "1"


async def test_b11_one_bad_key_refuses_the_whole_update(one: Talk) -> None:
    await one.update({"a": actual("1"), "b": actual("1")})
    result = await one.update({"a": actual("2"), "b": actual("x")})
    assert result["code"] == 400 and "b" in result["reason"]
    assert (await one.get())["a"]["actual"]["value"] == "1"


async def test_b12_null_deletes_an_optional_twin_and_it_may_return_as_another_type(one: Talk) -> None:
    await one.update({"t": actual("1")})
    await one.next("twin/update/document")
    result = await one.update({"t": None})
    assert result["twin"] == {"t": None}
    document = (await one.next("twin/update/document"))["twin"]["t"]
    assert document["current"] is None and document["last"]["actual"]["value"] == "1"
    assert "t" not in await one.get()
    assert "code" not in await one.update({"t": actual("now text", "string")})


async def test_b16_an_unknown_device_is_told_so(unknown: Talk) -> None:
    result = await unknown.update({"t": actual("1")})
    assert result["code"] == 404
    assert "update rejected due to the device is not existed" in result["reason"]


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (b"this is not JSON", None),
        (b'{"event_id":"e9"', None),
        ({"event_id": "e9"}, "e9"),
        ({"event_id": "e9", "twin": {}}, "e9"),
        ({"event_id": "e9", "twin": {"bad key!": {"actual": {"value": "1"}}}}, "e9"),
        ({"event_id": "e9", "twin": {"k" * 129: {"actual": {"value": "1"}}}}, "e9"),
        ({"event_id": "e9", "twin": {"t": {"actual": {"value": "x" * 70_000}}}}, "e9"),
        ({"event_id": "e9", "twin": {"t": {"actual": {"value": 1}}}}, "e9"),
        ({"event_id": "e9", "twin": {"t": {"actual": {"value": "1"}, "metadata": {"type": "colour"}}}}, "e9"),
    ],
)
async def test_b17_what_cannot_be_taken_is_answered_on_the_devices_own_topic(
    one: Talk, payload: Any, event: str | None
) -> None:
    await one.say("twin/update", payload)
    result = await one.next("twin/update/result")
    assert result["code"] == 400 and len(result["reason"]) > 5
    if event:
        assert result["event_id"] == event
    assert "code" not in await one.update({"good": actual("1")})


async def test_b18_a_get_shows_the_twins_without_versions_and_tombstones(one: Talk) -> None:
    await one.update({"a": actual("1"), "b": actual("2")})
    await one.update({"b": None})
    await one.say("twin/get", {"event_id": "g1"})
    result = await one.next("twin/get/result")
    assert result["event_id"] == "g1" and result["timestamp"] > 0
    assert set(result["twin"]) >= {"a"} and "b" not in result["twin"]
    assert "version" not in str(result)


async def test_b21_to_b23_a_state_is_taken_or_refused(one: Talk) -> None:
    await one.say("state/update", {"event_id": "s1", "timestamp": 0, "state": "online"})
    device = (await one.next("state/update/result"))["device"]
    assert device["state"] == "online" and device["lastOnlineTime"]
    await one.say("state/update", {"event_id": "s2", "state": "OFFLINE"})
    assert (await one.next("state/update/result"))["device"]["state"] == "offline"
    await one.say("state/update", {"event_id": "s3", "state": "foo"})
    result = await one.next("state/update/result")
    assert result["code"] == 400 and "online" in result["reason"]


async def test_b24_the_state_of_an_unknown_device_is_refused(unknown: Talk) -> None:
    await unknown.say("state/update", {"event_id": "s1", "state": "online"})
    assert (await unknown.next("state/update/result"))["code"] == 404


async def test_b25_membership_lists_every_device_and_no_twins(member: Talk, one: Talk) -> None:
    await member.say("membership/get", {"event_id": "m1"})
    result = await member.next("membership/get/result")
    assert result["event_id"] == "m1"
    name = one.base.removeprefix("$hw/events/device/")
    found = {d["id"]: d for d in result["devices"]}
    assert found[name]["name"] == name.partition("/")[2]
    assert "twin" not in found[name] and "twins" not in found[name]


async def test_b33_an_empty_actual_is_survived_and_the_next_update_is_answered(one: Talk) -> None:
    await one.say("twin/update", {"twin": {"t": {"actual": {}}}})
    await one.next("twin/update/result")
    assert "code" not in await one.update({"t": actual("1")})


async def test_qos_0_1_and_2_are_all_answered(one: Talk) -> None:
    for qos in (0, 1, 2):
        assert "code" not in await one.update({"t": actual(str(qos))}, qos=qos)
    assert (await one.get())["t"]["actual"]["value"] == "2"


@pytest.mark.parametrize("namespace", ["dev", "device", "hw", "event"])
async def test_b34_namespaces_that_look_like_topic_words_work(elsewhere: Any, namespace: str) -> None:
    async with elsewhere(namespace, "thing") as talk:
        assert "code" not in await talk.update({"t": actual("1")})


async def test_a_name_with_a_dot_works_over_mqtt(elsewhere: Any) -> None:
    async with elsewhere("default", "a.b") as talk:
        assert "code" not in await talk.update({"t": actual("7")})
        assert (await talk.get())["t"]["actual"]["value"] == "7"


async def test_a_text_of_64_kib_with_any_character_is_taken(one: Talk) -> None:
    value = ('{"json": "in a text", "ümlaut": 1} ' * 2000)[:60_000]
    assert "code" not in await one.update({"t": actual(value, "string")})
    assert (await one.get())["t"]["actual"]["value"] == value


async def test_a_thousand_keys_in_one_update_reach_kubernetes(stories: Stories, one: Talk) -> None:
    assert "code" not in await one.update({f"k{i}": actual(str(i), "int") for i in range(1000)})
    await stories.shows(one.base.rpartition("/")[2], {"k0": "0", "k999": "999"}, 10)
    too_many = await one.update({f"more{i}": actual("1") for i in range(1001)})
    assert too_many["code"] == 400 and "twins" in too_many["reason"]


@pytest.mark.parametrize("name", ["no_such_lamp", "UPPER"])
async def test_a_name_that_cannot_exist_is_answered_like_an_unknown_one(stories: Stories, name: str) -> None:
    async with talk(stories.system.node().mqtt_port, device(name)) as client:
        for qos in (0, 1):
            assert (await client.update({"t": actual("1")}, qos=qos))["code"] == 404
