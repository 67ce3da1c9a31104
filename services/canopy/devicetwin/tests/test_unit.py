"""The unit on a real leaf with its MQTT gateway: KubeEdge's cases, the sets up and down, mappers."""

import time
from typing import Any

import pytest

from canopy.contracts import catalogue as c
from canopy.contracts.wire import Delta, MapperReport
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("devicetwin")]


def actual(value: str, kind: str = "int") -> dict[str, Any]:
    return {"actual": {"value": value}, "metadata": {"type": kind}}


def expected(value: str) -> dict[str, Any]:
    return {"expected": {"value": value}}


async def test_a_report_is_answered_documented_stored_and_goes_up(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one:
        before = int(time.time() * 1000)
        result = await one.update({"t": actual("1")}, event="e1")
        twin = result["twin"]["t"]
        assert "code" not in result and before <= result["timestamp"] <= time.time() * 1000
        assert (twin["actual"]["value"], twin["optional"], twin["metadata"]["type"]) == ("1", True, "int")
        document = await one.next("twin/update/document")
        assert document["twin"]["t"]["last"] is None and document["twin"]["t"]["current"]["actual"]["value"] == "1"
        await one.get()
        assert "twin/update/delta" not in [s for s, _ in one.heard]
    await until(lambda: node.hub.value("d1", "t") == "1")
    assert (node.hub.reports[-1].uid, node.hub.reports[-1].device_revision) == ("u1", 7)
    await node.equal()


async def test_the_cases_of_the_contract_by_a_stock_client(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one, node.talk("nobody") as unknown:
        await one.update({"t": actual("1")})
        await one.update({"t": expected("5")})
        assert (await one.next("twin/update/delta"))["delta"] == {"t": "5"}
        order = [s.rpartition("/")[2] for s, _ in one.heard if s.startswith("twin/update/")]
        assert order == ["result", "document", "result", "document", "delta"]
        assert "the value is not int or integer" in (await one.update({"t": actual("x")}))["reason"]
        assert (await one.get())["t"]["actual"]["value"] == "1"
        assert (await one.update({"t": actual("5")}))["twin"]["t"]["actual"]["value"] == "5"
        assert (await one.update({"t": None}))["twin"] == {"t": None}
        assert await one.get() == {}
        assert (await unknown.update({"t": actual("1")}))["code"] == 404
        await one.say("twin/update", b'{"event_id":"e9",')
        broken = await one.next("twin/update/result")
        assert (broken["code"], broken["event_id"]) == (400, "e9")
        await one.say("state/update", {"event_id": "s", "state": "online"})
        assert (await one.next("state/update/result"))["device"]["state"] == "online"
        await one.say("state/update", {"event_id": "s", "state": "foo"})
        assert (await one.next("state/update/result"))["code"] == 400
        await one.say("twin/update", {"twin": {"t": {"actual": {}}}})
        assert (await one.next("twin/update/result"))["code"] == 400
        assert "code" not in await one.update({"t": actual("1")})


async def test_every_quality_of_service_is_answered_and_qos_0_does_not_overtake(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one:
        for qos in (0, 1, 2):
            assert "code" not in await one.update({"t": actual(str(qos))}, qos=qos)
        for i in range(20):
            await one.say("twin/update", {"event_id": f"{i} stored", "twin": {"t": actual("1")}}, qos=1)
            await one.say("twin/update", {"event_id": f"{i} then", "twin": {"t": actual(str(i))}}, qos=0)
            for word in ("stored", "then"):
                assert (await one.next("twin/update/result"))["event_id"] == f"{i} {word}"
        assert (await one.get())["t"]["actual"]["value"] == "19"


@pytest.mark.parametrize(
    ("namespace", "name"), [("dev", "x"), ("device", "x"), ("hw", "x"), ("event", "x"), ("default", "a.b")]
)
async def test_names_that_look_like_topics_and_names_with_dots_work(
    node: Any, make: Any, namespace: str, name: str
) -> None:
    await node.meta.set(make(name, namespace=namespace))
    await node.start()
    await node.listed(1)
    async with node.talk(name, namespace) as one:
        assert "code" not in await one.update({"t": actual("7")})
        assert (await one.get())["t"]["actual"]["value"] == "7"
    await until(lambda: node.hub.value(name, "t", namespace) == "7")


async def test_devices_come_and_go_and_the_members_are_told(node: Any, make: Any) -> None:
    await node.start()
    async with node.member() as member:
        await node.meta.set(make("a"), make("b"))
        came = [await member.next("membership/updated") for _ in range(2)]
        assert sorted(m["added_devices"][0]["id"] for m in came) == ["default/a", "default/b"]
        assert came[0]["removed_devices"] is None
        assert (await node.listed(2))[0]["attributes"]["serial"]["value"] == "S-1"
        await node.meta.set(make("b"))
        assert (await member.next("membership/updated"))["removed_devices"][0]["id"] == "default/a"
        await node.meta.set(make("b", uid="u2"))
        gone, came_again = [await member.next("membership/updated") for _ in range(2)]
        assert gone["removed_devices"] and came_again["added_devices"]
        await node.listed(1)


async def test_a_desired_value_reaches_the_device_until_it_agrees_and_goes_up(
    node: Any, make: Any, make_model: Any
) -> None:
    heat = {"type": "INT", "accessMode": "ReadWrite", "maximum": "30"}
    await node.meta.set(make_model(heat=heat), make("d1"))
    await node.start(delta_first_seconds=0.2)
    await node.listed(1)
    async with node.talk("d1") as one:
        await node.meta.set(make_model(heat=heat), make("d1", heat="20"))
        assert (await one.next("twin/update/delta"))["delta"] == {"heat": "20"}
        assert (await one.next("twin/update/delta"))["delta"] == {"heat": "20"}, "it is said again"
        assert "code" not in await one.update({"heat": {"actual": {"value": "20"}}})
        twin = (await one.get())["heat"]
        assert (twin["expected"]["value"], twin["metadata"]["type"]) == ("20", "int")
        assert (await one.update({"heat": expected("31")}))["code"] == 400

    def up() -> bool:
        twin = node.hub.states.get(("default", "d1"), {}).get("twins", {}).get("heat", {})
        return twin.get("expected", {}).get("value") == twin.get("reported", {}).get("value") == "20"

    await until(up)


async def test_an_older_or_unproven_set_changes_nothing(node: Any, make: Any) -> None:
    await node.meta.set(make("a"), at=5)
    await node.start(read_seconds=0.1)
    await node.listed(1)
    await node.meta.set(at=4)
    await node.stop()
    await node.start(read_seconds=0.1)
    assert [d["name"] for d in await node.listed(1)] == ["a"]
    await node.meta.set(at=6)
    assert await node.listed(0) == []


async def test_without_metamanager_and_link_the_rows_serve_after_a_restart(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    async with node.talk("d1") as one:
        await one.update({"t": actual("1")})
        await node.equal()
        revision = node.hub.reports[-1].revision
        await node.stop()
        node.meta.verdict = node.hub.verdict = "busy"
        await node.start()
        assert (await one.get())["t"]["actual"]["value"] == "1"
        assert [d["name"] for d in await node.listed(1)] == ["d1"]
        await one.update({"t": actual("2")})
        assert (await node.hub.summary()).pending == 1
        node.hub.verdict = "ok"
        await node.hub.link(True)
        await until(lambda: node.hub.value("d1", "t") == "2")
        assert node.hub.reports[-1].revision == revision + 1


async def test_a_hub_that_lost_everything_is_told_all_again(node: Any, make: Any) -> None:
    await node.meta.set(*(make(f"d{i}") for i in range(3)))
    await node.start()
    await node.listed(3)
    for i in range(3):
        async with node.talk(f"d{i}") as one:
            await one.update({"t": actual(str(i))})
    await node.equal()
    for entry in list(node.hub.stored):
        node.hub.stored.drop(entry.key)
    await node.hub.want()
    await node.equal()
    assert len(node.hub.stored) == 3
    node.hub.pages.clear()
    await node.hub.link(True, session=99)
    await until(lambda: node.hub.pages)


async def test_what_was_deleted_goes_from_the_cloud_with_the_next_page(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"), make("d2"))
    await node.start()
    await node.listed(2)
    async with node.talk("d1") as one:
        await one.update({"t": actual("1")})
    await node.equal()
    await node.meta.set(make("d2"))
    await node.listed(1)
    assert (await node.hub.summary()).hash != node.hub.stored.hash
    await node.hub.want()
    await node.equal()
    assert len(node.hub.stored) == 0


async def test_results_that_are_not_ok_acknowledge_nothing(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    node.hub.outcome = "older"
    async with node.talk("d1") as one:
        await one.update({"t": actual("1")})
        await until(lambda: len(node.hub.reports) >= 2)
        assert (await node.hub.summary()).pending == 1
        node.hub.outcome = "ok"
        await node.equal()
        node.hub.outcome = "refused"
        await one.update({"t": actual("2")})
        count = await until(lambda: len(node.hub.reports) if node.hub.reports[-1].revision == 2 else 0)

        async def given_up() -> bool:
            return (await node.hub.summary()).pending == 0

        await until(given_up)
        assert len(node.hub.reports) == count
        node.hub.outcome = "ok"
        await one.update({"t": actual("3")})
        await node.equal()


async def test_a_state_that_changed_while_it_was_on_its_way_goes_up_at_once(node: Any, make: Any) -> None:
    """Seen to take the whole `report_seconds` when the sender waited for a change: an answer that comes too late for
    every row of its batch changes none."""
    await node.meta.set(make("d1"))
    await node.start(report_seconds=60.0)
    await node.listed(1)
    async with node.talk("d1") as one:
        node.hub.answers.clear()
        await one.update({"t": actual("1")})
        await until(lambda: node.hub.reports)
        await one.update({"t": actual("2")})
        node.hub.answers.set()
        await until(lambda: node.hub.value("d1", "t") == "2")


async def test_a_mapper_is_answered_when_its_report_is_stored_and_hears_deltas(node: Any, make: Any) -> None:
    await node.meta.set(make("d1"))
    await node.start()
    await node.listed(1)
    bus = await node.bus("mapper")
    heard: list[Delta] = []

    async def hear(delta: Delta, place: Any) -> None:
        heard.append(delta)

    await bus.hear(c.TWIN_DELTA, hear)

    def report(seq: int, value: str) -> MapperReport:
        return MapperReport(
            namespace="default",
            name="d1",
            mapper="m1",
            seq=seq,
            values={"t": value},
            types={"t": "int"},
            state="online",
        )

    assert (await bus.ask(c.TWIN_REPORT, report(1, "1"), timeout=5)).outcome == "ok"
    async with node.talk("d1") as one:
        assert (await one.get())["t"]["actual"]["value"] == "1"
        await one.update({"t": expected("5")})
    await until(lambda: heard and heard[-1].desired == {"t": "5"})
    answer = await bus.ask(c.TWIN_REPORT, report(2, "2"), timeout=5)
    assert (answer.outcome, answer.desired) == ("ok", {"t": "5"})
    assert (await bus.ask(c.TWIN_REPORT, report(1, "9"), timeout=5)).outcome == "older"
    await until(lambda: node.hub.value("d1", "t") == "2")
    assert node.hub.states[("default", "d1")]["state"] == "online"
