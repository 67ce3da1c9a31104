"""The shell with fakes: what is answered, stored and said, and what happens in trouble."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from canopy.bus.bus import Place
from canopy.bus.outcome import AskTimeout
from canopy.cloudhub.core import Bounds
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.handlers import Handlers
from canopy.cloudhub.live import Live
from canopy.cloudhub.records import Records
from canopy.cloudhub.sessions import Nonces, Sessions
from canopy.cloudhub.view import View
from canopy.contracts.catalogue import PRESENCE, TWINS
from canopy.contracts.wire import (
    AsOf,
    Beat,
    Hello,
    HelloAnswer,
    Limits,
    Presence,
    Push,
    Report,
    ReportBatch,
    ReportResult,
    StateEntry,
    StatePageAsk,
    TwinRecord,
)
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Metrics
from canopy.store.errors import CacheUnavailable
from canopy.store.memory import MemoryCache
from canopy.sync.sets import digest
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until

NODE = "edge-1"
HERE: Place[Any] = Place({"node": NODE, "channel": "devices"}, {}, "")


class Heard:
    """A bus that keeps what is said."""

    def __init__(self) -> None:
        self.said: list[tuple[Any, Any]] = []

    async def say(self, subject: Any, message: Any, **tokens: str) -> None:
        self.said.append((subject, message))

    async def ask(self, subject: Any, message: Any, *, timeout: float = 1.0, **tokens: str) -> Any:
        raise AskTimeout("nobody")

    async def serve(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...

    async def hear(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...


class Cache(MemoryCache):
    """May be away."""

    away = False

    def _open(self) -> None:
        if self.away:
            raise CacheUnavailable("away")
        super()._open()


class Hub:
    """CloudHub without a hub."""

    def __init__(self, stream: Any, make_report: Any) -> None:
        self.clock, self.twins, self.bucket = FrozenClock(now_ms=1000), stream, type(stream)()
        self.cache, self.view, self.bus, self.metrics = Cache(self.clock.monotonic), View(), Heard(), Metrics()
        self.view.caught_up = True
        self.counts, say, rng = Counts.of(self.metrics), once_per(60), random.Random(1)
        records = Records(stream, self.view, self.clock, self.counts, say, Bounds())
        self.live = Live(self.cache, records, self.clock, self.counts, say, rng)
        self.sessions = Sessions(self.bucket, records, self.clock, lambda: "nonce")
        self.handlers = Handlers(
            self.bus,
            self.sessions,
            records,
            self.live,
            Nonces(),
            self.clock,
            self.counts,
            say,
            rng,
            cluster=lambda: "cluster-uid",
            limits=Limits(reports_per_batch=3),
            hellos_at_once=2,
        )
        self.make_report, self.session, self.n = make_report, 0, 0

    async def hello(self, **more: Any) -> HelloAnswer:
        answer = await self.handlers.hello(Hello(**more), HERE)
        self.session = answer.session
        return answer

    async def report(self, *reports: Report, n: int = 0) -> list[ReportResult]:
        self.n += 1
        batch = ReportBatch(session=self.session, n=n or self.n, reports=list(reports))
        answer = await self.handlers.report(batch, HERE)
        assert answer.verdict == "ok", answer
        return answer.results

    def held(self, name: str) -> TwinRecord:
        value = self.twins.messages[TWINS.at(node=NODE, namespace="default", name=name)]
        return msgspec.json.decode(value.data, type=TwinRecord)

    async def beat(self) -> Any:
        return await self.handlers.beat(Beat(session=self.session, n=1, hash=self.view.hash(NODE)), HERE)

    async def shown(self) -> dict[str, int]:
        found = await self.cache.hgetall(f"live:{NODE}")
        return {f: msgspec.json.decode(v, type=TwinRecord).revision for f, v in found.items()}


@pytest.fixture
async def hub(stream: Any, make_report: Any) -> AsyncIterator[Hub]:
    hub = Hub(stream, make_report)
    working = asyncio.create_task(hub.live.run())
    yield hub
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@pytest.mark.parametrize(
    ("bucket", "now", "seen", "record", "session"),
    [(0, 1000, 0, 0, 1000), (5000, 1000, 0, 0, 5001), (5, 1000, 7000, 0, 7001), (5, 1000, 5, 9000, 9001)],
)
async def test_a_session_is_above_everything_that_was(
    hub: Hub, bucket: int, now: int, seen: int, record: int, session: int
) -> None:
    if bucket:
        hub.clock.step((bucket - 1 - hub.clock.now_ms()) / 1000)
        while hub.session < bucket:
            await hub.hello()
    if record:
        hub.session = (await hub.hello(seen=record - 1)).session
        await hub.report(hub.make_report("d", "1"))
        hub.bucket.messages.clear()
    hub.clock.step((now - hub.clock.now_ms()) / 1000)
    answer = await hub.hello(seen=seen)
    assert (answer.verdict, answer.session, answer.cluster, answer.time) == ("ok", session, "cluster-uid", now)


async def test_a_hello_is_refused_with_a_reason_and_changes_nothing(hub: Hub) -> None:
    answer = await hub.hello(protocol=(9, 9))
    assert answer.verdict == "refused" and "9 to 9" in answer.reason and not hub.bucket.messages


async def test_presence_is_whole_at_each_beat_and_only_then_said(hub: Hub) -> None:
    await hub.hello(version="1", labels={"zone": "a"})
    await hub.handlers.beat(Beat(session=hub.session, n=1, health={"devicetwin": "ok"}), HERE)
    await hub.handlers.beat(Beat(session=hub.session - 1, n=1), HERE)
    said = [m for s, m in hub.bus.said if s is PRESENCE]
    assert [(p.labels, p.version, p.health) for p in said] == [
        ({"zone": "a"}, "1", {}),
        ({"zone": "a"}, "1", {"devicetwin": "ok"}),
    ]
    assert isinstance(said[0], Presence)


async def test_a_hello_that_was_held_up_opens_no_session_over_a_later_one(hub: Hub) -> None:
    """A link that was frozen, or a replica that was stopped, gives several at once and in any order; the last to be
    answered would else be the session, and EdgeHub, which took its newest hello's, superseded by itself."""
    newest = await hub.hello(edge="one", n=3)
    for n in (1, 2, 3):
        late = await hub.handlers.hello(Hello(edge="one", n=n), HERE)
        assert late.verdict == "busy" and late.session == 0
    assert (await hub.beat()).verdict == "ok" and hub.session == newest.session
    another = await hub.handlers.hello(Hello(edge="two", n=1), HERE)
    assert another.session > newest.session and (await hub.beat()).verdict == "superseded"


async def test_a_storm_of_hellos_is_a_queue(hub: Hub) -> None:
    answers = await asyncio.gather(*(hub.handlers.hello(Hello(), HERE) for _ in range(2)))
    assert [a.verdict for a in answers] == ["ok", "ok"]
    gate = asyncio.Event()
    get = hub.bucket.get

    async def slow(address: str) -> Any:
        await gate.wait()
        return await get(address)

    hub.bucket.get = slow
    working = [asyncio.create_task(hub.handlers.hello(Hello(), HERE)) for _ in range(2)]
    await asyncio.sleep(0)
    late = await hub.handlers.hello(Hello(), HERE)
    assert late.verdict == "busy" and 1 <= late.retry_after_seconds <= 3
    gate.set()
    assert {a.verdict for a in await asyncio.gather(*working)} == {"ok"}


async def test_a_hub_that_does_not_answer_is_busy_whatever_is_asked(hub: Hub) -> None:
    await hub.hello()
    hub.bucket.failing = AskTimeout("no answer")
    batch, page = ReportBatch(session=hub.session, n=1), StatePageAsk(session=hub.session, n=1)
    answers: list[Any] = [
        await hub.hello(),
        await hub.beat(),
        await hub.handlers.report(batch, HERE),
        await hub.handlers.state_page(page, HERE),
    ]
    assert [a.verdict for a in answers] == ["busy"] * 4 and all(a.retry_after_seconds > 0 for a in answers)


async def test_a_write_that_fails_is_to_be_retried_and_the_others_are_stored(hub: Hub) -> None:
    await hub.hello()

    def mischief(address: str) -> None:
        if address == TWINS.at(node=NODE, namespace="default", name="b"):
            raise AskTimeout("no answer")

    hub.twins.before_put = mischief
    results = await hub.report(*(hub.make_report(n, "1") for n in "abc"))
    assert [r.outcome for r in results] == ["ok", "retry", "ok"]


async def test_each_report_has_its_result_in_order_and_bad_ones_harm_no_others(hub: Hub) -> None:
    await hub.hello()
    good, bad = hub.make_report("a", "1"), hub.make_report("b", "1", uid="")
    results = await hub.report(good, bad, good)
    assert [(r.outcome, r.reason[:3]) for r in results] == [("ok", ""), ("refused", "uid"), ("refused", "the")]
    too_many = ReportBatch(session=hub.session, n=9, reports=[good] * 4)
    assert (await hub.handlers.report(too_many, HERE)).verdict == "refused"


async def test_a_repeat_is_ok_without_a_write_and_an_older_message_acknowledges_nothing(hub: Hub) -> None:
    """RULES 17, 18. Tried without: `judge` that answers OLDER to a repeat, and one that stores it again."""
    await hub.hello()
    first, second = hub.make_report("d", "1", revision=1), hub.make_report("d", "2", revision=2)
    outcomes = [(await hub.report(second, n=5))[0].outcome]
    seq = hub.twins.seq
    outcomes += [(await hub.report(r, n=n))[0].outcome for r, n in ((second, 5), (second, 4), (first, 4), (first, 5))]
    assert outcomes == ["ok", "ok", "ok", "older", "older"] and hub.twins.seq == seq


async def test_who_writes_in_between_is_seen_and_the_report_judged_anew(hub: Hub) -> None:
    """RULES 17. Tried without: no expected sequence."""
    await hub.hello()
    await hub.report(hub.make_report("d", "1"), n=1)
    address = TWINS.at(node=NODE, namespace="default", name="d")
    newest = hub.held("d")
    newer = msgspec.json.encode(msgspec.structs.replace(newest, n=9, revision=9))

    def mischief(_: str) -> None:
        hub.twins.before_put = lambda address: None
        hub.twins.force(address, newer)

    hub.twins.before_put = mischief
    assert (await hub.report(hub.make_report("d", "2", revision=2), n=2))[0].outcome == "older"
    assert hub.held("d").revision == 9
    assert (await hub.report(hub.make_report("d", "3", revision=10), n=10))[0].outcome == "ok"


async def test_who_loses_every_race_is_told_to_come_again(hub: Hub) -> None:
    await hub.hello()
    hub.twins.before_put = lambda address: hub.twins.force(address, b"{}") and None
    assert (await hub.report(hub.make_report("d", "1")))[0].outcome == "retry"


async def test_a_message_in_twins_that_is_not_ours_is_written_over(hub: Hub) -> None:
    await hub.hello()
    hub.twins.force(TWINS.at(node=NODE, namespace="default", name="d"), b"nonsense")
    assert (await hub.report(hub.make_report("d", "1")))[0].outcome == "ok"


async def test_a_bucket_below_twins_leads_to_a_new_hello(hub: Hub) -> None:
    await hub.hello()
    await hub.report(hub.make_report("d", "1"))
    record = hub.held("d")
    above = msgspec.json.encode(msgspec.structs.replace(record, session=record.session + 50, revision=3))
    hub.twins.force(TWINS.at(node=NODE, namespace="default", name="d"), above)
    hub.clock.step(-100)
    batch = ReportBatch(session=hub.session, n=5, reports=[hub.make_report("d", "2", revision=2)])
    assert (await hub.handlers.report(batch, HERE)).verdict == "hello"
    hub.view.caught_up = False
    assert (await hub.hello()).session == record.session + 51


async def test_a_push_without_a_session_is_dropped_and_counted(hub: Hub) -> None:
    push = Push(as_of=AsOf(epoch=1, revisions={}), hash="0" * 16)
    await hub.handlers.set_push(push, HERE)
    assert not hub.bus.said and hub.counts.dropped.value(what="push") == 1


async def test_a_page_that_is_not_caught_up_with_twins_asks_for_nothing(hub: Hub) -> None:
    await hub.hello()
    hub.view.caught_up = False
    answer = await hub.handlers.beat(Beat(session=hub.session, n=1, hash="f" * 16), HERE)
    assert (answer.verdict, answer.page) == ("ok", False)


# --- live twins -------------------------------------------------------------------------------------------------------
async def test_live_twins_follow_reports_and_a_page_takes_away_what_is_gone(hub: Hub) -> None:
    await hub.hello()
    await hub.report(*(hub.make_report(n, "1") for n in "ab"))
    await until(lambda: _equals(hub, {"default/a": 1, "default/b": 1}))
    a = hub.make_report("a", "1")
    entries = [StateEntry("default", "a", "u1", 1, digest(bytes(a.content)))]
    await hub.handlers.state_page(StatePageAsk(session=hub.session, n=9, entries=entries), HERE)
    await until(lambda: _equals(hub, {"default/a": 1}))


@pytest.mark.parametrize("harm", ["emptied", "hash edited", "away while it was told"])
async def test_a_cache_that_lost_something_is_written_anew_from_twins(hub: Hub, harm: str) -> None:
    """RULES 22. Tried without: beats that do not look at `livehash`; failures that are not remembered."""
    await hub.hello()
    await hub.report(hub.make_report("a", "1"))
    await until(lambda: _equals(hub, {"default/a": 1}))
    if harm == "emptied":
        hub.cache._entries.clear()
        await hub.beat()
    elif harm == "hash edited":
        await hub.cache.hdel(f"live:{NODE}", ["default/a"])
        await hub.cache.set(f"livehash:{NODE}", b"edited")
        await hub.beat()
    else:
        hub.cache.away = True
        await hub.report(hub.make_report("a", "2", revision=2))
        await until(lambda: hub.counts.cache_failures.value())
        hub.cache.away = False
        await hub.clock.advance(10)
    await until(lambda: _equals(hub, {"default/a": 2 if harm.startswith("away") else 1}), seconds=3)


@pytest.mark.parametrize("count", [1, 20])
async def test_what_another_replica_wrote_late_or_elsewhere_is_read_from_twins(hub: Hub, count: int) -> None:
    """Two replicas, each with a memory of its own, or one stopped for a while between TWINS and Redis. Seen to show
    the older value until a later beat (of the right replica) when the cache alone was read."""
    await hub.hello()
    names = [f"d{i:02}" for i in range(count)]
    for name in names:
        await hub.report(hub.make_report(name, "1"))
    await until(lambda: _equals(hub, {f"default/{n}": 1 for n in names}))
    older = dict(await hub.cache.hgetall(f"live:{NODE}"))
    for name in names:
        await hub.report(hub.make_report(name, "2", revision=2))
    await until(lambda: _equals(hub, {f"default/{n}": 2 for n in names}))
    await hub.cache.hset(f"live:{NODE}", older, 60)
    shown = await hub.live.of(NODE)
    assert {r.state.twins["t"].reported.value for r in shown.values()} == {"2"} and len(shown) == count
    await until(lambda: _equals(hub, {f"default/{n}": 2 for n in names}))


async def test_an_edited_live_twin_is_mended_by_the_refresh(hub: Hub) -> None:
    await hub.hello()
    await hub.report(hub.make_report("a", "1"))
    await until(lambda: _equals(hub, {"default/a": 1}))
    await hub.cache.hdel(f"live:{NODE}", ["default/a"])
    await hub.clock.advance(601)
    await hub.beat()
    await until(lambda: _equals(hub, {"default/a": 1}))


async def test_the_link_does_not_wait_for_the_cache(hub: Hub) -> None:
    await hub.hello()
    hub.cache.away = True
    assert (await hub.report(hub.make_report("a", "1")))[0].outcome == "ok"
    assert (await hub.beat()).verdict == "ok"
    assert list(await hub.live.of(NODE)) == [("default", "a")]


async def _equals(hub: Hub, wanted: dict[str, int]) -> bool:
    return await hub.shown() == wanted
