"""The rules of the sessions and of the sync upward, as random walks over the real code: `sync.up`, and CloudHub's
handlers, records, sessions, view and live twins, in two replicas over one hub.

The walk plays the edges (EdgeHub and DeviceTwin as far as the rules go) and every fault of the protocol: messages lost,
late, doubled, reordered; two EdgeHubs with one name; older rows restored; devices that go, come, and change their uid;
a hub that loses its last seconds, all of TWINS, or its sessions; a controller's purge; Redis emptied or away; a clock
that steps back. Every request to the hub is a step of its own, so that replicas meet between any two of them.

Checked all the time: TWINS never goes back to an older state; nothing is acknowledged that was not stored. At the end,
when faults cease: rows, TWINS and live twins are equal within a few rounds. `WITHOUT` holds one mutation for each rule,
and a test sees the walks fail with it.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest

from canopy.bus.bus import Place
from canopy.bus.streams import Value, WrongSequence
from canopy.cloudhub import core, handlers, live, records, sessions
from canopy.cloudhub.core import Bounds
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.handlers import Handlers
from canopy.cloudhub.live import Live
from canopy.cloudhub.records import Records, readable
from canopy.cloudhub.sessions import Nonces, Sessions
from canopy.cloudhub.view import View
from canopy.contracts.wire import (
    Beat,
    BeatAnswer,
    DeviceState,
    Hello,
    HelloAnswer,
    Limits,
    Report,
    ReportBatch,
    ReportResults,
    Side,
    StateEntry,
    StatePageAnswer,
    StatePageAsk,
    TwinRecord,
    TwinState,
    encode,
)
from canopy.runtime.logs import once_per
from canopy.runtime.metrics import Metrics
from canopy.store.memory import MemoryCache
from canopy.sync import up
from canopy.sync.sets import HashedSet, digest
from canopy.testing.clock import FrozenClock

NODE, NAMES = "edge-1", ("x", "y", "z")
REFRESH_SECONDS = 600.0
ROUNDS = 12


class Violation(AssertionError):
    """A rule of the protocol does not hold."""


class Stream:
    """A stream of last values; each request waits until the walk lets it go."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.messages: dict[str, Value] = {}
        self.seq = 0

    async def get(self, address: str) -> Value | None:
        await self._world.turn()
        return self.messages.get(address)

    async def put(self, address: str, data: bytes, expect: int | None, trace: dict[str, str] | None = None) -> int:
        await self._world.turn()
        last = self.messages.get(address)
        if expect is not None and expect != (last.seq if last else 0):
            raise WrongSequence(address)
        self.seq += 1
        self.messages[address] = value = Value(address, self.seq, data)
        self._world.written(self, last, value)
        return self.seq

    async def purge(self, address: str, upto: int) -> None:
        await self._world.turn()
        if (last := self.messages.get(address)) is not None and last.seq <= upto:
            del self.messages[address]

    async def under(self, wild: str) -> list[Value]:
        await self._world.turn()
        return [v for a, v in self.messages.items() if a.startswith(wild.split("*")[0])]


class Silent:
    """A bus on which nobody hears."""

    async def say(self, subject: Any, message: Any, **tokens: str) -> None: ...

    async def ask(self, subject: Any, message: Any, *, timeout: float = 1.0, **tokens: str) -> Any:
        raise NotImplementedError

    async def serve(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...

    async def hear(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...


class Replica:
    """One CloudHub. `news` is what its reader of TWINS has still to bring; None: read from the beginning."""

    def __init__(self, world: "World", seed: int) -> None:
        counts, say, rng = Counts.of(Metrics()), once_per(60, world.clock.monotonic), random.Random(seed)
        self.view, self.news = View(), list[Value | None]()
        self._twins = world.twins
        kept = Records(world.twins, self.view, world.clock, counts, say, Bounds())
        self.live = Live(world.cache, kept, world.clock, counts, say, rng, REFRESH_SECONDS)
        self.handlers = Handlers(
            Silent(),
            Sessions(world.sessions, kept, world.clock, lambda: "nonce"),
            kept,
            self.live,
            Nonces(),
            world.clock,
            counts,
            say,
            rng,
            limits=Limits(),
        )
        self.view.caught_up = True

    def bring(self) -> None:
        """The reader goes on by one."""
        value = self.news.pop(0)
        if value is not None:
            self.view.put(NODE, readable(value))
            return
        self.view.reset()
        for held in self._twins.messages.values():
            self.view.put(NODE, readable(held))
        self.view.caught_up = True


@dataclass(frozen=True)
class Row:
    """One device as DeviceTwin keeps it."""

    uid: str
    value: int
    revision: int
    acknowledged: bool = False

    def content(self) -> bytes:
        return encode(DeviceState(twins={"t": TwinState(reported=Side(value=str(self.value)))}, state="online"))

    def entry(self, name: str) -> StateEntry:
        return StateEntry("default", name, self.uid, self.revision, digest(self.content()))


@dataclass
class Edge:
    """EdgeHub and DeviceTwin as far as the rules go."""

    rows: dict[str, Row] = field(default_factory=dict)
    session: int | None = None
    n: int = 0
    seen: int = 0
    page: bool = False

    @property
    def entries(self) -> HashedSet[StateEntry]:
        return HashedSet(row.entry(name) for name, row in self.rows.items())


@dataclass
class Ask:
    """A message on its way up, then its answer on its way down."""

    edge: Edge
    body: Any
    answer: Any = None


class World:
    """Everything, and what is checked of it."""

    def __init__(self, seed: int) -> None:
        self.rng, self.clock = random.Random(seed), FrozenClock(now_ms=10)
        self.cache = MemoryCache(self.clock.monotonic)
        self.waiting: list[asyncio.Future[None]] = []
        self.twins, self.sessions = Stream(self), Stream(self)
        self.replicas = [Replica(self, seed + i) for i in range(2)]
        self.main, self.clone = Edge(), None
        self.up, self.down = list[Ask](), list[Ask]()
        self.saved_rows: dict[str, Row] = {}
        self.copy: tuple[dict[str, Value], dict[str, Value]] = ({}, {})
        self.stored: set[tuple[str, str, int, str]] = set()
        self.values = self.uids = self.losses = 0
        self.free = False
        self.wrong: list[Violation] = []
        self.tasks: set[asyncio.Task[None]] = set()

    # --- steps ------------------------------------------------------------------------------------------------------
    async def turn(self) -> None:
        if self.free:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        await future

    async def settle(self) -> None:
        for _ in range(12):
            await asyncio.sleep(0)

    def check(self) -> None:
        for violation in self.wrong:
            raise violation

    def written(self, stream: Stream, old: Value | None, new: Value) -> None:
        if stream is not self.twins:
            return
        after = msgspec.json.decode(new.data, type=TwinRecord)
        self.stored.add((after.name, after.uid, after.revision, after.digest))
        if old is not None and not self.losses:
            before = msgspec.json.decode(old.data, type=TwinRecord)
            if (before.session, before.n) >= (after.session, after.n):
                self.wrong.append(Violation(f"TWINS goes back: {before} -> {after}"))
        for replica in self.replicas:
            replica.news.append(new)

    # --- the edges --------------------------------------------------------------------------------------------------
    def edges(self) -> list[Edge]:
        return [self.main, *([self.clone] if self.clone else [])]

    def ask(self, edge: Edge, what: str) -> None:
        if edge.session is None:
            self.up.append(Ask(edge, Hello(seen=edge.seen)))
            return
        edge.n += 1
        stamp = {"session": edge.session, "n": edge.n}
        if what == "beat":
            self.up.append(Ask(edge, Beat(hash=edge.entries.hash, **stamp)))
        elif what == "page":
            self.up.append(Ask(edge, StatePageAsk(entries=edge.entries.span(None)[0], **stamp)))
            edge.page = False
        else:
            reports = [self.report(name, row) for name, row in edge.rows.items() if not row.acknowledged]
            self.up.append(Ask(edge, ReportBatch(reports=reports, **stamp)))

    @staticmethod
    def report(name: str, row: Row) -> Report:
        return Report(
            namespace="default",
            name=name,
            uid=row.uid,
            device_revision=1,
            revision=row.revision,
            content=msgspec.Raw(row.content()),
        )

    def answered(self, ask: Ask) -> None:
        edge, answer = ask.edge, ask.answer
        if isinstance(answer, HelloAnswer):
            if answer.verdict == "ok" and answer.session > edge.seen:
                edge.session = edge.seen = answer.session
                edge.n, edge.page = 0, True
        elif answer.verdict in ("superseded", "hello"):
            if ask.body.session == edge.session:
                edge.session = None
        elif isinstance(answer, BeatAnswer):
            edge.page = edge.page or answer.page
        elif isinstance(answer, StatePageAnswer):
            for _, name in answer.resend:
                if name in edge.rows:
                    edge.rows[name] = replace(edge.rows[name], acknowledged=False)
        else:
            self._results(edge, answer)

    def _results(self, edge: Edge, answer: ReportResults) -> None:
        for result in answer.results:
            row = edge.rows.get(result.name)
            if row is not None and up.acknowledges(row.entry(result.name), result):
                edge.rows[result.name] = replace(row, acknowledged=True)
                entry = row.entry(result.name)
                if (entry.name, entry.uid, entry.revision, entry.digest) not in self.stored:
                    self.wrong.append(Violation(f"acknowledged but never stored: {row}"))

    # --- what happens -----------------------------------------------------------------------------------------------
    def actions(self) -> dict[str, tuple[int, Callable[[], None]]]:
        """Weight and deed of all that may happen."""
        return {
            "report": (12, self._device_reports),
            "recreate": (2, self._recreated),
            "remove": (2, lambda: self._any_edge().rows.pop(self.rng.choice(NAMES), None)),
            "send": (10, lambda: self.ask(self._any_edge(), "report")),
            "beat": (6, lambda: self.ask(self._any_edge(), "beat")),
            "page": (4, self._page),
            "deliver": (24, self._deliver),
            "answer": (20, self._answer),
            "go": (50, self._go),
            "follow": (12, self._follow),
            "lose": (3, self._lose),
            "double": (3, self._double),
            "clone": (2, self._cloned),
            "save": (2, self._save),
            "restore rows": (2, self._restore_rows),
            "copy hub": (2, self._copy_hub),
            "restore hub": (2, self._restore_hub),
            "lose twins": (1, lambda: self._hub_lost(twins={})),
            "lose sessions": (1, lambda: self._hub_lost(sessions={})),
            "purge": (1, self._purged),
            "empty cache": (1, self.cache._entries.clear),
            "clock": (2, lambda: self.clock.step(self.rng.choice((-1, -0.05, 0.01)))),
        }

    def _any_edge(self) -> Edge:
        return self.rng.choice(self.edges())

    def _device_reports(self) -> None:
        edge, name = self._any_edge(), self.rng.choice(NAMES)
        self.values += 1
        old = edge.rows.get(name)
        edge.rows[name] = Row(old.uid, self.values, old.revision + 1) if old else Row(self._uid(), self.values, 1)

    def _uid(self) -> str:
        self.uids += 1
        return f"u{self.uids}"

    def _recreated(self) -> None:
        edge, name = self._any_edge(), self.rng.choice(NAMES)
        self.values += 1
        edge.rows[name] = Row(self._uid(), self.values, 1)

    def _page(self) -> None:
        edge = self._any_edge()
        if edge.page or self.rng.random() < 0.2:
            self.ask(edge, "page")

    def _deliver(self) -> None:
        if self.up:
            self.serve(self.up.pop(self.rng.randrange(len(self.up))))

    def serve(self, ask: Ask) -> None:
        task = asyncio.ensure_future(self._served(ask, self.rng.choice(self.replicas).handlers))
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.wrong.append(Violation(f"a handler failed: {error!r}"))

    async def _served(self, ask: Ask, server: Handlers) -> None:
        place: Place[Any] = Place({"node": NODE}, {}, "")
        serving = {
            Hello: server.hello,
            Beat: server.beat,
            StatePageAsk: server.state_page,
            ReportBatch: server.report,
        }[type(ask.body)]
        answer = await serving(ask.body, place)  # type: ignore[operator]
        self.down.append(Ask(ask.edge, ask.body, answer))

    def _answer(self) -> None:
        if self.down:
            self.answered(self.down.pop(self.rng.randrange(len(self.down))))

    def _go(self) -> None:
        if self.waiting:
            future = self.waiting.pop(self.rng.randrange(len(self.waiting)))
            if not future.done():
                future.set_result(None)

    def _follow(self) -> None:
        replica = self.rng.choice(self.replicas)
        if replica.news:
            replica.bring()

    def _lose(self) -> None:
        net = self.rng.choice((self.up, self.down))
        if net:
            net.pop(self.rng.randrange(len(net)))

    def _double(self) -> None:
        net = self.rng.choice((self.up, self.down))
        if net:
            net.append(self.rng.choice(net))

    def _cloned(self) -> None:
        """A second machine with this node's name, from a copy of its disk; or it is gone again."""
        self.clone = None if self.clone else Edge(dict(self.main.rows), None, 0, self.main.seen)

    def _save(self) -> None:
        self.saved_rows = dict(self.main.rows)

    def _restore_rows(self) -> None:
        """An older copy of the node's disk: EdgeHub begins anew, and has not seen the last sessions."""
        self.main = Edge(dict(self.saved_rows), None, 0, 0)

    def _copy_hub(self) -> None:
        self.copy = (dict(self.twins.messages), dict(self.sessions.messages))

    def _restore_hub(self) -> None:
        self._hub_lost(*self.copy)

    def _hub_lost(self, twins: dict[str, Value] | None = None, sessions: dict[str, Value] | None = None) -> None:
        """The hub comes back with less than it had; readers find out later."""
        self.losses += 1
        if twins is not None:
            self.twins.messages = dict(twins)
        if sessions is not None:
            self.sessions.messages = dict(sessions)
        for replica in self.replicas:
            replica.news.append(None)

    def _purged(self) -> None:
        """A controller purges a subject: nobody is told."""
        if self.twins.messages:
            del self.twins.messages[self.rng.choice(sorted(self.twins.messages))]

    # --- the end ----------------------------------------------------------------------------------------------------
    async def heal(self) -> None:
        """Faults cease; one edge is left. All must be equal within a few rounds."""
        self.free = True
        for future in self.waiting:
            if not future.done():
                future.set_result(None)
        self.waiting.clear()
        await self._deliver_all()
        await self._two_machines()
        self.clone = None
        for number in range(ROUNDS):
            await self.clock.advance(REFRESH_SECONDS if number < 2 else 10)
            for replica in self.replicas:
                while replica.news:
                    replica.bring()
            for what in ("beat", "page", "report", "beat"):
                if what != "page" or self.main.page:
                    self.ask(self.main, what)
                await self._deliver_all()
            await self.clock.advance(10)
            if number >= 2 and not self.unequal() and not await self.wrong_live():
                return
        raise Violation(self.unequal() or await self.wrong_live())

    async def _two_machines(self) -> None:
        """One name, two machines: after a beat of each, one of them knows that it is not the node (RULES 14)."""
        sessions = [edge.session for edge in self.edges() if edge.session is not None]
        if len(set(sessions)) < 2:
            return
        for edge in self.edges():
            self.ask(edge, "beat")
        await self._deliver_all()
        if all(edge.session is not None for edge in self.edges()):
            raise Violation(f"two machines are both taken for the node, in the sessions {sessions}")

    async def _deliver_all(self) -> None:
        while self.up or self.down or self.tasks:
            for ask in self.up:
                self.serve(ask)
            self.up.clear()
            await self.settle()
            for ask in self.down:
                self.answered(ask)
            self.down.clear()
            if self.tasks:
                await asyncio.wait(self.tasks)

    def held(self) -> dict[str, TwinRecord]:
        found = [msgspec.json.decode(v.data, type=TwinRecord) for v in self.twins.messages.values()]
        return {r.name: r for r in found}

    def unequal(self) -> str:
        """What is not as it should be."""
        held = {n: (r.uid, r.revision, r.state.twins["t"].reported.value) for n, r in self.held().items()}  # type: ignore[union-attr]
        rows = {n: (r.uid, r.revision, str(r.value)) for n, r in self.main.rows.items()}
        if held != rows:
            return f"never equal: rows {rows}, TWINS {held}"
        late = [n for n, r in self.main.rows.items() if not r.acknowledged]
        return f"never acknowledged: {late}" if late else ""

    async def wrong_live(self) -> str:
        fields = await self.cache.hgetall(f"live:{NODE}")
        shown = {f.partition("/")[2]: msgspec.json.decode(v, type=TwinRecord) for f, v in fields.items()}
        return "" if shown == self.held() else f"live twins {shown} are not TWINS {self.held()}"


async def walk(seed: int, steps: int = 150) -> None:
    """One random life. Raises Violation."""
    world = World(seed)
    workers = [asyncio.ensure_future(r.live.run()) for r in world.replicas]
    _, weights, deeds = zip(*((n, w, d) for n, (w, d) in world.actions().items()), strict=True)
    try:
        for _ in range(steps):
            world.rng.choices(deeds, weights)[0]()
            await world.settle()
            world.check()
        await world.heal()
        world.check()
    finally:
        for task in (*workers, *world.tasks):
            task.cancel()
        await asyncio.gather(*workers, *world.tasks, return_exceptions=True)


@pytest.mark.parametrize("first", range(0, 60, 15))
async def test_whatever_happens_nothing_goes_back_and_all_is_equal_in_the_end(first: int) -> None:
    for seed in range(first, first + 15):
        await walk(seed)


# --- one mutation a rule ----------------------------------------------------------------------------------------------
def _session_by_clock_and_bucket_only(bucket: int, now_ms: int, seen: int, stamps: Any) -> int:
    return max(bucket + 1, now_ms)


def _session_without_twins(bucket: int, now_ms: int, seen: int, stamps: Any) -> int:
    return max(bucket + 1, now_ms, seen + 1)


def _any_session(said: int, bucket: int) -> str:
    return ""


def _not_below_the_bucket(said: int, bucket: int) -> str:
    return "superseded" if said < bucket else ""


def _by_revision(entry: StateEntry, stamp: Any, stored: up.Stored | None) -> up.Verdict:
    if stored is None or entry.revision > stored.entry.revision:
        return up.Verdict.STORE
    return up.Verdict.OK if entry == stored.entry else up.Verdict.OLDER


def _always_stored(entry: StateEntry, stamp: Any, stored: up.Stored | None) -> up.Verdict:
    return up.Verdict.STORE


def _acknowledged_by_revision(row: StateEntry, result: Any) -> bool:
    return result.outcome == "ok" and result.revision >= row.revision


async def _not_outrun(self: Any, node: str, batch: Any) -> str:
    return "ok"


def _nothing_resent(ask: Any, stored: Any) -> up.Difference:
    return up.Difference((), up.compare(ask, stored).purge)


def _nothing_purged(ask: Any, stored: Any) -> up.Difference:
    return up.Difference(up.compare(ask, stored).resend, ())


async def _put_without_sequence(self: Stream, address: str, data: bytes, expect: Any, trace: Any = None) -> int:
    return await PUT(self, address, data, None, trace)


PUT = Stream.put
WITHOUT: dict[str, tuple[Any, str, Any]] = {
    "13, what the edge has seen": (sessions, "next_session", _session_by_clock_and_bucket_only),
    "13, what TWINS bears": (sessions, "next_session", _session_without_twins),
    "14, superseded": (handlers, "refusal", _any_session),
    "14, say hello": (handlers, "refusal", _not_below_the_bucket),
    "14, TWINS above the bucket": (handlers.Handlers, "_outrun", _not_outrun),
    "16, order by stamp": (records, "judge", _by_revision),
    "17, older": (records, "judge", _always_stored),
    "17, the expected sequence": (Stream, "put", _put_without_sequence),
    "19": (up, "acknowledges", _acknowledged_by_revision),
    "20, the digest": (core, "digest", lambda content: "0" * 16),
    "22, live twins written anew": (live.Live, "_write_anew", lambda self, node: asyncio.sleep(0)),
    "23, sent again": (records, "compare", _nothing_resent),
    "23, purged": (records, "compare", _nothing_purged),
}


# Rules that few walks need: a seed and a number of steps where one did. Tried first, before the others.
SEEN = {
    "13, what the edge has seen": (219, 150),
    "13, what TWINS bears": (219, 150),
    "14, say hello": (123, 150),
    "14, TWINS above the bucket": (5714, 200),
    "17, the expected sequence": (115, 150),
    "20, the digest": (1675, 250),
    "23, sent again": (179, 150),
}


@contextmanager
def _without(rule: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    where, name, other = WITHOUT[rule]
    with monkeypatch.context() as patch:
        patch.setattr(where, name, other)
        if rule.startswith("20"):
            patch.setitem(globals(), "digest", other)
        yield


@pytest.mark.parametrize("rule", WITHOUT)
async def test_without_a_rule_walks_go_wrong(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with _without(rule, monkeypatch):
        for seed, steps in [SEEN.get(rule, (0, 150)), *((seed, 150) for seed in range(400))]:
            try:
                await walk(seed, steps)
            except Violation:
                return
    raise AssertionError(f"rule {rule}: no walk notices that it is missing")
