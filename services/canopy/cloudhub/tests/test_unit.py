"""CloudHub over a real hub: a client plays an edge, another a controller."""

import asyncio
from typing import Any

import msgspec
import pytest

from canopy.bus.outcome import AskFailed
from canopy.contracts import catalogue as c
from canopy.contracts.wire import (
    AsOf,
    Beat,
    Entry,
    PageAnswer,
    PageAsk,
    Push,
    Put,
    ReportBatch,
    SetAsk,
    StatePageAsk,
    TwinRecord,
)
from canopy.testing.wait import until

pytestmark = pytest.mark.server


async def test_a_node_comes_reports_and_its_set_is_proven_equal(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge.3")
    answer = await edge.hello(version="0.1.0", labels={"zone": "a"}, capacity={"cpu": "4"})
    assert (answer.verdict, answer.protocol, len(answer.nonce)) == ("ok", 1, 32)
    one, two = edge.report_of("a.b", "1"), edge.report_of("light", "2")
    results = await edge.report(one, two)
    assert [r.outcome for r in results.results] == ["ok", "ok"]
    equal = edge.entries(one, two).hash
    assert not (await edge.ask(c.BEAT, Beat(hash=equal, health={"devicetwin": "ok"}))).page
    assert (await edge.ask(c.BEAT, Beat(hash="0" * 16))).page
    twins = await world.twins()
    held = await twins.get(c.TWINS.at(node="edge.3", namespace="default", name="a.b"))
    record = msgspec.json.decode(held.data, type=TwinRecord)
    assert (record.session, record.state.twins["t"].reported.value) == (answer.session, "1")


async def test_a_hundred_states_in_one_batch_are_stored_each_with_its_own_result(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    reports = [edge.report_of(f"d{i}", str(i)) for i in range(300)]
    results = (await edge.report(*reports)).results
    assert [(r.name, r.outcome) for r in results] == [(f"d{i}", "ok") for i in range(300)]
    assert not (await edge.ask(c.BEAT, Beat(hash=edge.entries(*reports).hash))).page


async def test_a_newer_session_supersedes_and_an_unknown_one_must_say_hello(world: Any) -> None:
    await world.unit()
    await world.unit()
    edge, other = await world.edge("edge-1"), await world.edge("edge-1")
    await edge.hello()
    await other.hello()
    assert other.session > edge.session
    assert (await edge.ask(c.BEAT, Beat())).verdict == "superseded"
    assert (await edge.report(edge.report_of("d", "1"))).verdict == "superseded"
    edge.session = other.session + 1
    assert (await edge.ask(c.BEAT, Beat())).verdict == "hello"
    assert (await other.ask(c.BEAT, Beat())).verdict == "ok"


async def test_two_hellos_at_once_at_two_replicas_get_two_sessions(world: Any) -> None:
    await world.unit()
    await world.unit()
    edges = [await world.edge("edge-1") for _ in range(6)]
    answers = await asyncio.gather(*(e.hello() for e in edges))
    assert len({a.session for a in answers}) == 6


async def test_a_page_upward_heals_what_the_hub_lost_and_purges_what_the_node_does_not_have(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    kept, lost, gone = (edge.report_of(n, "1") for n in ("kept", "lost", "gone"))
    await edge.report(kept, lost, gone)
    twins = await world.twins()
    address = c.TWINS.at(node="edge-1", namespace="default", name="lost")
    await twins.purge(address, (await twins.get(address)).seq)
    entries, _ = edge.entries(kept, lost).span(None)
    answer = await edge.ask(c.STATE_PAGE, StatePageAsk(entries=entries))
    assert answer.resend == [("default", "lost")]
    assert await twins.get(c.TWINS.at(node="edge-1", namespace="default", name="gone")) is None
    assert (await edge.ask(c.BEAT, Beat(hash=edge.entries(kept, lost).hash))).page
    assert [r.outcome for r in (await edge.report(lost)).results] == ["ok"]
    assert not (await edge.ask(c.BEAT, Beat(hash=edge.entries(kept, lost).hash))).page


async def test_when_the_hub_has_lost_everything_a_hello_and_a_page_bring_it_back(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge-1")
    first = await edge.hello()
    await edge.report(edge.report_of("d", "1"))
    await world.hub.server.kill()
    js = world.hub.server.directory / "js"
    js.rename(js.with_name("lost"))
    await world.hub.server.start()

    async def told_to_say_hello() -> bool:
        try:
            return str((await edge.ask(c.BEAT, Beat())).verdict) == "hello"
        except AskFailed:
            return False

    async def taken() -> bool:
        try:
            return (await edge.hello()).verdict == "ok"
        except AskFailed:
            return False

    await until(told_to_say_hello)
    await until(taken)
    assert edge.session > first.session
    same = edge.report_of("d", "1")
    answer = await edge.ask(c.STATE_PAGE, StatePageAsk(entries=edge.entries(same).span(None)[0]))
    assert answer.resend == [("default", "d")]
    assert [r.outcome for r in (await edge.report(same)).results] == ["ok"]


async def test_a_page_downward_is_the_controllers_and_busy_without_one(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    busy = await edge.ask(c.PAGE, PageAsk(), channel="devices")
    assert busy.verdict == "busy" and busy.retry_after_seconds > 0
    controller, asked = await world.controller(), []

    async def page(message: SetAsk, place: Any) -> PageAnswer:
        asked.append(message.node)
        put = Put(Entry("Device", "default", "d", "u", "0" * 16), msgspec.Raw(b'{"kind":"Device"}'))
        return PageAnswer(as_of=AsOf(epoch=1, revisions={"Device": 7}), hash="1" * 16, puts=[put])

    await controller.serve(c.SET_PAGE, page)

    async def answered() -> Any:
        found = await edge.ask(c.PAGE, PageAsk(), channel="devices")
        return found if found.verdict == "ok" else None  # a controller that is late is none

    (put,) = (await until(answered)).puts
    assert set(asked) == {"edge-1"} and put.entry.name == "d" and bytes(put.body) == b'{"kind":"Device"}'
    await controller.close()


async def test_a_push_reaches_the_session_and_only_its_node(world: Any) -> None:
    await world.unit()
    edge, other, controller = await world.edge("edge-1"), await world.edge("edge-2"), await world.controller()
    for one in (edge, other):
        await one.hear()
        await one.hello()
    push = Push(as_of=AsOf(epoch=1, revisions={}), hash="0" * 16)

    async def pushed() -> bool:
        await controller.say(c.SET_PUSH, push, channel="devices", node="edge-1")
        return bool(edge.pushes)

    await until(pushed)
    assert edge.pushes[0] == (push, edge.nonce) and not other.pushes
    await controller.close()


async def test_a_repeat_is_ok_and_an_older_message_is_older(world: Any) -> None:
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    early = edge.stamped(ReportBatch(reports=[edge.report_of("d", "1", revision=1)]))
    late = edge.stamped(ReportBatch(reports=[edge.report_of("d", "2", revision=2)]))
    outcomes = []
    for batch in (late, early, late):
        answer = await edge.bus.ask(c.REPORT, batch, timeout=5, node="edge-1")
        outcomes += [r.outcome for r in answer.results]
    assert outcomes == ["ok", "older", "ok"]


async def test_what_two_replicas_write_at_once_ends_with_the_newest(world: Any) -> None:
    await world.unit()
    await world.unit()
    edge = await world.edge("edge-1")
    await edge.hello()
    batches = [edge.stamped(ReportBatch(reports=[edge.report_of("d", str(i), revision=i)])) for i in range(40)]
    answers = await asyncio.gather(*(edge.bus.ask(c.REPORT, b, timeout=5, node="edge-1") for b in reversed(batches)))
    assert answers[0].results[0].outcome == "ok"
    held = await (await world.twins()).get(c.TWINS.at(node="edge-1", namespace="default", name="d"))
    assert msgspec.json.decode(held.data, type=TwinRecord).revision == 39
