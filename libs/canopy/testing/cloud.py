"""A small CloudHub for tests of edge units: it answers hellos, beats, reports and pages as the rules say, one session a
node, and can be told to fall silent or to refuse."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from canopy.bus import Bus, Place
from canopy.bus.dispatch import Handler
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.contracts.subject import AnySubject
from canopy.sync.down import Wanted
from canopy.sync.sets import digest
from canopy.sync.up import refusal


def put(name: str, spec: str = "1", kind: str = "Device", uid: str = "") -> wire.Put:
    """An object of a set, with a small body."""
    body = b'{"metadata":{"name":"%s"},"spec":"%s"}' % (name.encode(), spec.encode())
    entry = wire.Entry(kind, "default", name, uid or f"uid-{name}", digest(body))
    return wire.Put(entry, msgspec.Raw(body))


@dataclass
class FakeCloud:
    """`wanted` is what every node should have at `as_of`; `said` records what came, by kind."""

    bus: Bus
    wanted: Wanted = field(default_factory=lambda: Wanted(()))
    as_of: wire.AsOf = field(default_factory=lambda: wire.AsOf(epoch=0, revisions={"Device": 1}))
    page_bytes: int = 200_000
    beat_seconds: float = 0.2
    verdict: str = "ok"
    wants_page: bool = False
    silent: bool = False
    sessions: dict[str, int] = field(default_factory=dict)
    hellos: list[wire.Hello] = field(default_factory=list)
    beats: list[wire.Beat] = field(default_factory=list)
    pages: list[wire.PageAsk] = field(default_factory=list)
    reports: list[wire.ReportBatch] = field(default_factory=list)

    async def open(self) -> "FakeCloud":
        served: dict[AnySubject, Handler[Any, Any]] = {
            c.HELLO: self._hello,
            c.BEAT: self._beat,
            c.PAGE: self._page,
            c.REPORT: self._report,
        }
        for subject, handler in served.items():
            await self.bus.serve(subject, self._unless_silent(handler), concurrency=64)
        return self

    def _unless_silent(self, handler: Handler[Any, Any]) -> Handler[Any, Any]:
        async def handle(message: Any, place: Place[Any]) -> Any:
            answer = await handler(message, place)
            return None if self.silent else answer

        return handle

    def want(self, *puts: wire.Put) -> None:
        """Another set, at a later resourceVersion."""
        self.wanted = Wanted(puts)
        self.as_of = wire.AsOf(epoch=self.as_of.epoch, revisions={"Device": self.as_of.revisions["Device"] + 1})

    async def push(self, node: str, *puts: wire.Put, deletes: tuple[wire.Key, ...] = (), nonce: str = "") -> None:
        """Say a change to a node, with the hash of the whole set."""
        message = wire.Push(as_of=self.as_of, hash=self.wanted.hash, puts=list(puts), deletes=list(deletes))
        await self.bus.say(c.PUSH, message, node=node, nonce=nonce or self.nonce(node), channel=c.DEVICES_CHANNEL)

    def nonce(self, node: str) -> str:
        return f"n{self.sessions[node]}"

    async def _hello(self, hello: wire.Hello, place: Place[Any]) -> wire.HelloAnswer:
        self.hellos.append(hello)
        if self.verdict not in ("ok", "hello"):
            return wire.HelloAnswer(verdict=self.verdict, retry_after_seconds=0.05)
        node = place["node"]
        self.sessions[node] = max(self.sessions.get(node, 0), hello.seen) + 1
        limits = wire.Limits(beat_seconds=self.beat_seconds)
        return wire.HelloAnswer(session=self.sessions[node], nonce=self.nonce(node), protocol=1, limits=limits)

    async def _beat(self, beat: wire.Beat, place: Place[Any]) -> wire.BeatAnswer:
        self.beats.append(beat)
        verdict = self._verdict(beat, place)
        return wire.BeatAnswer(verdict=verdict, page=self.wants_page and verdict == "ok")

    async def _page(self, ask: wire.PageAsk, place: Place[Any]) -> wire.PageAnswer:
        self.pages.append(ask)
        verdict = self._verdict(ask, place)
        if verdict != "ok":
            return wire.PageAnswer(verdict=verdict, retry_after_seconds=0.05)
        return self.wanted.answer(ask, self.as_of, most_bytes=self.page_bytes)

    async def _report(self, batch: wire.ReportBatch, place: Place[Any]) -> wire.ReportResults:
        self.reports.append(batch)
        return wire.ReportResults(verdict=self._verdict(batch, place))

    def _verdict(self, said: wire.Stamped, place: Place[Any]) -> str:
        return refusal(said.session, self.sessions.get(place["node"], 0)) or self.verdict
