"""The link is cut, the hub is down, units die: what is, arrives; what should be, is right; in order, within 5 s."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from own_certificates import Device
from stories import Stories
from talk import Talk, device, talk

from canopy.testing.wait import until

pytestmark = pytest.mark.server
CATCH_UP_SECONDS = 5.0
ANSWERED_SECONDS = 30.0
"""Also by a unit that is just killed, and starts beside all others on a busy machine."""
SPLIT = pytest.mark.one_mode("split")
"""For a unit that dies with another one when folded."""


@pytest_asyncio.fixture(loop_scope="session")
async def one(certified: Device) -> AsyncIterator[Talk]:
    """In each story the same device: it is not cut off when its node's units die."""
    async with talk(certified.port, device(certified.name), context=certified.tls) as client:
        yield client


def _name(one: Talk) -> str:
    return one.base.rpartition("/")[2]


async def _hundred(one: Talk, first: int = 1) -> str:
    """100 reports, each answered; the last value."""
    for value in range(first, first + 100):
        await one.say(
            "twin/update",
            {"event_id": str(value), "twin": {"t": {"actual": {"value": str(value)}, "metadata": {"type": "int"}}}},
        )
    answered = 0
    while answered < 100:
        result = await one.next("twin/update/result", ANSWERED_SECONDS)
        if result["event_id"].isdecimal():
            assert "code" not in result
            answered += 1
    return str(first + 99)


class Seen:
    """Every value of `t` that a DeviceStatus showed, in order."""

    def __init__(self) -> None:
        self.values: list[int] = []

    async def watch(self, stories: Stories, name: str) -> None:
        while True:
            value = (await stories.status(name)).get("t")
            if value is not None and (not self.values or self.values[-1] != int(value)):
                self.values.append(int(value))
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def _watching(stories: Stories, name: str) -> AsyncIterator[Seen]:
    seen = Seen()
    task = asyncio.create_task(seen.watch(stories, name))
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert seen.values == sorted(seen.values), "an older value was shown after a newer one"


async def _reported_first(stories: Stories, one: Talk) -> None:
    await one.update({"t": {"actual": {"value": "0"}, "metadata": {"type": "int"}}})
    await stories.shows(_name(one), {"t": "0"}, 15)


async def test_b37_100_reports_while_the_link_is_cut_arrive_after_it_is_back(stories: Stories, one: Talk) -> None:
    await _reported_first(stories, one)
    link = stories.system.node().link
    async with _watching(stories, _name(one)):
        await link.cut()
        last = await _hundred(one)
        await link.join()
        await stories.shows(_name(one), {"t": last}, CATCH_UP_SECONDS)


@pytest.mark.parametrize("victim", ["nobody", "devicetwin", pytest.param("edgehub", marks=SPLIT)])
async def test_100_reports_while_the_hub_is_down_arrive_after_it_is_back(
    stories: Stories, one: Talk, victim: str
) -> None:
    await _reported_first(stories, one)
    server = stories.system.hub.server
    async with _watching(stories, _name(one)):
        await server.kill()
        last = await _hundred(one)
        if victim != "nobody":
            await stories.system.unit(victim).restart(kill=True)
        await server.start()
        await stories.shows(_name(one), {"t": last}, CATCH_UP_SECONDS)


@pytest.mark.parametrize(
    "victim",
    ["devicetwin", "cloudhub", *(pytest.param(u, marks=SPLIT) for u in ("edgehub", "metamanager", "devicecontroller"))],
)
async def test_a_unit_killed_in_the_middle_of_reports_loses_none(stories: Stories, one: Talk, victim: str) -> None:
    await _reported_first(stories, one)
    async with _watching(stories, _name(one)):
        killing = asyncio.create_task(stories.system.unit(victim).restart(kill=True))
        last = await _hundred(one)
        await killing
        # A killed leader is followed when its Lease runs out (15 s); folded, cloudhub dies together with it.
        led = victim == "devicecontroller" or (victim == "cloudhub" and not stories.system.split)
        await stories.shows(_name(one), {"t": last}, 25 if led else 10)


async def test_a_killed_leaf_loses_no_answered_report(stories: Stories, one: Talk) -> None:
    await _reported_first(stories, one)
    last = await _hundred(one)
    await stories.system.node().leaf.server.restart(kill=True)
    await stories.shows(_name(one), {"t": last}, 15)


async def test_b36_an_edge_restarted_while_offline_serves_its_twins_and_devices(stories: Stories, one: Talk) -> None:
    await _reported_first(stories, one)
    node = stories.system.node()
    before = await one.get()
    await node.link.cut()
    try:
        await asyncio.gather(*(process.restart(kill=True) for process in node.edge.values()))
        assert await one.get() == before
    finally:
        await node.link.join()
    await one.update({"t": {"actual": {"value": "7"}}})
    await stories.shows(_name(one), {"t": "7"}, CATCH_UP_SECONDS)


async def test_changes_of_devices_while_both_nodes_are_away_are_right_at_both_within_5_s(stories: Stories) -> None:
    system = stories.system
    names = {what: f"{what}-{uuid.uuid4().hex[:6]}" for what in ("changed", "deleted", "again", "moved", "new")}
    async with contextlib.AsyncExitStack() as stack:
        at: dict[tuple[str, str], Talk] = {}
        for node in ("edge-1", "node"):
            for what, name in names.items():
                at[node, what] = await stack.enter_async_context(talk(system.node(node).mqtt_port, device(name)))
        for what in ("changed", "deleted", "again", "moved"):
            await stories.create(names[what])
            await stories.known_at_the_edge(at["edge-1", what])
            await at["edge-1", what].update({"t": {"actual": {"value": "1"}, "metadata": {"type": "int"}}})
            await stories.shows(names[what], {"t": "1"}, 15)
        await asyncio.gather(*(system.node(node).link.cut() for node in ("edge-1", "node")))
        await stories.kube.patch(
            "Device", names["changed"], {"spec": {"properties": [{"name": "level", "desired": {"value": "9"}}]}}
        )
        await stories.kube.delete("Device", names["deleted"])
        await stories.kube.delete("Device", names["again"])
        await until(lambda: _gone(stories, names["again"]))
        await stories.create(names["again"])
        await stories.kube.patch("Device", names["moved"], {"spec": {"nodeName": "node"}})
        await stories.create(names["new"], on="node")
        await asyncio.gather(*(system.node(node).link.join() for node in ("edge-1", "node")))
        began = time.monotonic()
        await _right(stories, at, began)
        await at["node", "moved"].update({"t": {"actual": {"value": "2"}, "metadata": {"type": "int"}}})
        await stories.shows(names["moved"], {"t": "2"}, 10)
        assert (await stories.status(names["again"])).get("t") is None
        for name in names.values():
            await stories.kube.delete("Device", name)


async def _gone(stories: Stories, name: str) -> bool:
    return await stories.kube.get("Device", name) is None


async def _right(stories: Stories, at: dict[tuple[str, str], Talk], began: float) -> None:
    """Each device where it should be, and nowhere else, 5 s after the links are back."""

    def left() -> float:
        return max(0.1, CATCH_UP_SECONDS - (time.monotonic() - began))

    delta = await at["edge-1", "changed"].next("twin/update/delta", left())
    assert delta["delta"] == {"level": "9"}
    await stories.unknown_at_the_edge(at["edge-1", "deleted"], left())
    await stories.unknown_at_the_edge(at["edge-1", "moved"], left())
    await stories.known_at_the_edge(at["node", "moved"], left())
    await stories.known_at_the_edge(at["node", "new"], left())
    await until(lambda: _empty(at["edge-1", "again"]), left())


async def _empty(talk: Talk) -> bool:
    """The device is known and its twin has begun anew."""
    await talk.say("twin/get", {"event_id": "empty"})
    answer: dict[str, Any] = await talk.next("twin/get/result")
    return "code" not in answer and "t" not in answer["twin"]
