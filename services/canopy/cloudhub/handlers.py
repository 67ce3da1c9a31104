"""What CloudHub answers to nodes, and what it hands to them: load, decide, store, say. `unit` makes and opens it.

The node is the subject's, never the body's. Every answer to a node is a Verdict; a hub that does not answer us in time
is `busy`, so that an edge never mistakes our trouble for its own.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from canopy.bus import healths
from canopy.bus.bus import Place, TooBig
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed, Reject
from canopy.cloudhub.core import Unacceptable, check_hello
from canopy.cloudhub.counts import Counts
from canopy.cloudhub.live import Live
from canopy.cloudhub.records import Records
from canopy.cloudhub.sessions import NONE, Contended, Late, Nonces, Sessions
from canopy.contracts.catalogue import (
    BEAT,
    HELLO,
    PAGE,
    PRESENCE,
    PUSH,
    REPORT,
    SET_PAGE,
    SET_PUSH,
    STATE_PAGE,
    UP_CHANNEL,
)
from canopy.contracts.subject import Subject
from canopy.contracts.wire import (
    Beat,
    BeatAnswer,
    Hello,
    HelloAnswer,
    Limits,
    PageAnswer,
    PageAsk,
    Presence,
    Push,
    ReportBatch,
    ReportResults,
    Session,
    SetAsk,
    Stamped,
    StatePageAnswer,
    StatePageAsk,
    Verdict,
)
from canopy.runtime.clock import Clock
from canopy.runtime.logs import OncePer
from canopy.sync.up import refusal

log = logging.getLogger("canopy.cloudhub")
HUB_BUSY_SECONDS = 1.0
HELLO_RETRY_SECONDS = 2.0
CONTROLLER_SECONDS = 0.8
"""How long a controller may think over a page: the edge asks again after 1 s."""
MAX_HEALTH = 32
MAX_HEALTH_CHARACTERS = 200
HELLOS_REFUSED_AT_ONCE = 512
V = TypeVar("V", bound=Verdict)
A = TypeVar("A")


class Voice(Protocol):
    """What handlers need of a `canopy.bus.Bus`."""

    async def say(self, subject: Subject[Any, Any], message: Any, **tokens: str) -> None: ...

    async def ask(self, subject: Subject[Any, A], message: Any, *, timeout: float = 1.0, **tokens: str) -> A: ...

    async def serve(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...

    async def hear(self, subject: Any, handler: Any, *, concurrency: int = 1, **tokens: str) -> None: ...


class Handlers:
    """`cluster` is the uid of the cluster that this cloud shows."""

    def __init__(
        self,
        bus: Voice,
        sessions: Sessions,
        records: Records,
        live: Live,
        nonces: Nonces,
        clock: Clock,
        counts: Counts,
        once_per: OncePer,
        rng: random.Random,
        *,
        cluster: Callable[[], str] = lambda: "",
        limits: Limits,
        hellos_at_once: int = 32,
        batches_at_once: int = 64,
    ) -> None:
        self._bus, self._sessions, self._records, self._live = bus, sessions, records, live
        self._nonces, self._clock, self._counts = nonces, clock, counts
        self._once_per, self._rng = once_per, rng
        self._cluster, self._limits = cluster, limits
        self._hellos_at_once, self._batches_at_once = hellos_at_once, batches_at_once
        self._hellos = 0

    async def open(self) -> None:
        """Serve from now on."""
        many, bus = self._batches_at_once, self._bus
        await bus.serve(HELLO, self.hello, concurrency=self._hellos_at_once + HELLOS_REFUSED_AT_ONCE)
        await bus.serve(BEAT, self.beat, concurrency=4 * many)
        await bus.serve(REPORT, self.report, concurrency=many)
        await bus.serve(STATE_PAGE, self.state_page, concurrency=many)
        await bus.serve(PAGE, self.page, concurrency=many)
        await bus.hear(SET_PUSH, self.set_push)

    # --- sessions ---------------------------------------------------------------------------------------------------
    async def hello(self, hello: Hello, place: Place[Hello]) -> HelloAnswer:
        """A node comes. Beyond `hellos_at_once`, the rest are told to come later: a storm is a queue."""
        if self._hellos >= self._hellos_at_once:
            answer = self._busy(HelloAnswer, "hello", "many nodes come at once", HELLO_RETRY_SECONDS)
        else:
            self._hellos += 1
            try:
                answer = await self._or_busy(HelloAnswer, "hello", self._greeted(hello, place["node"]))
            finally:
                self._hellos -= 1
        self._counts.hellos.add(verdict=answer.verdict)
        return answer

    async def _greeted(self, hello: Hello, node: str) -> HelloAnswer:
        try:
            protocol = check_hello(hello)
        except Unacceptable as e:
            log.warning("hello of %s refused: %s", node, e)
            return HelloAnswer(verdict="refused", reason=str(e))
        try:
            session = await self._sessions.open(node, hello, protocol)
        except Late as e:
            log.debug("%s", e)
            return HelloAnswer(verdict="busy", reason="a later hello has come", retry_after_seconds=HELLO_RETRY_SECONDS)
        log.info("%s has come", node, extra={"session": session.session, "version": session.version})
        await self._present(node, session, Beat())
        return HelloAnswer(
            session=session.session,
            nonce=session.nonce,
            protocol=protocol,
            limits=self._limits,
            time=self._clock.now_ms(),
            cluster=self._cluster(),
        )

    async def _present(self, node: str, session: Session, beat: Beat) -> None:
        presence = Presence(
            node=node,
            at=self._clock.now_ms(),
            session=session.session,
            version=session.version,
            labels=session.labels,
            capacity=session.capacity,
            health=_bounded(beat.health),
            units=[healths.bounded(one) for one in beat.units[: healths.MOST_RUNS]],
            pending=max(0, beat.pending),
        )
        self._live.heard(presence)
        await self._bus.say(PRESENCE, presence, node=node)

    async def _gate(self, node: str, said: Stamped) -> tuple[str, Session]:
        """Why a message may not pass (RULES 14), and the node's session."""
        session = await self._sessions.current(node) or NONE
        return refusal(said.session, session.session) if session.session else "hello", session

    # --- up ---------------------------------------------------------------------------------------------------------
    async def beat(self, beat: Beat, place: Place[Beat]) -> BeatAnswer:
        """The node lives. Its hash is compared with TWINS as this replica sees it (RULES 22)."""
        answer = await self._or_busy(BeatAnswer, "beat", self._beaten(beat, place["node"]))
        self._counts.beats.add(verdict="page" if answer.page else answer.verdict)
        return answer

    async def _beaten(self, beat: Beat, node: str) -> BeatAnswer:
        why, session = await self._gate(node, beat)
        if why:
            return BeatAnswer(verdict=why)
        await self._present(node, session, beat)
        view = self._records.view
        differs = view.caught_up and beat.hash is not None and view.hash(node) != beat.hash
        return BeatAnswer(page=differs)

    async def report(self, batch: ReportBatch, place: Place[ReportBatch]) -> ReportResults:
        """A batch of device states: stored at once, a result for each."""
        return await self._or_busy(ReportResults, "report", self._reported(batch, place["node"]))

    async def _reported(self, batch: ReportBatch, node: str) -> ReportResults:
        why, _ = await self._gate(node, batch)
        if why:
            return ReportResults(verdict=why)
        most = self._limits.reports_per_batch
        if len(batch.reports) > most:
            return ReportResults(verdict="refused", reason=f"reports: {len(batch.reports)}; should be at most {most}")
        stored = await self._records.store(node, (batch.session, batch.n), batch.reports)
        self._live.wrote(node, stored.written)
        if stored.session > batch.session:
            return ReportResults(verdict=await self._outrun(node, batch))
        return ReportResults(results=stored.results)

    async def _outrun(self, node: str, batch: ReportBatch) -> str:
        """TWINS bears a session above this one: a newer one has come, or the hub has lost the newest from its bucket
        (and the clock is behind): then only a new hello leads above what TWINS bears."""
        why, _ = await self._gate(node, batch)
        return why or "hello"

    async def state_page(self, ask: StatePageAsk, place: Place[StatePageAsk]) -> StatePageAnswer:
        """One page of the sync upward."""
        answer = await self._or_busy(StatePageAnswer, "state_page", self._compared(ask, place["node"]))
        self._counts.pages.add(channel=UP_CHANNEL, verdict=answer.verdict)
        return answer

    async def _compared(self, ask: StatePageAsk, node: str) -> StatePageAnswer:
        why, _ = await self._gate(node, ask)
        if why:
            return StatePageAnswer(verdict=why)
        difference = await self._records.compare(node, ask)
        if difference.purge:
            self._live.purged(node, (name for name, _ in difference.purge))
        return StatePageAnswer(resend=list(difference.resend))

    # --- down -------------------------------------------------------------------------------------------------------
    async def page(self, ask: PageAsk, place: Place[PageAsk]) -> PageAnswer:
        """One page of the sync downward, from whoever owns the channel."""
        answer = await self._or_busy(PageAnswer, "page", self._paged(ask, place["node"], place["channel"]))
        self._counts.pages.add(channel=place["channel"], verdict=answer.verdict)
        return answer

    async def _paged(self, ask: PageAsk, node: str, channel: str) -> PageAnswer:
        why, _ = await self._gate(node, ask)
        if why:
            return PageAnswer(verdict=why)
        question = SetAsk(node=node, ask=ask)
        try:
            return await self._bus.ask(SET_PAGE, question, timeout=CONTROLLER_SECONDS, channel=channel)
        except (TooBig, Reject) as e:
            return PageAnswer(verdict="refused", reason=str(e))
        except AskFailed as e:
            if self._once_per(f"no controller of {channel}"):
                log.warning("nobody answers pages of %s: %s", channel, e)
            return self._busy(PageAnswer, "page", f"no controller of {channel} answers", HUB_BUSY_SECONDS)

    async def set_push(self, push: Push, place: Place[Push]) -> None:
        """A change of a controller's leader, to the node if it has a session: else its next page brings it."""
        nonce = self._nonces.of(place["node"])
        if not nonce:
            return self._counts.dropped.add(what="push")
        await self._bus.say(PUSH, push, node=place["node"], nonce=nonce, channel=place["channel"])
        self._counts.pushes.add(channel=place["channel"])

    # --- trouble ----------------------------------------------------------------------------------------------------
    async def _or_busy(self, kind: type[V], what: str, work: Awaitable[V]) -> V:
        """The answer; `busy` while the hub's streams do not answer."""
        try:
            return await work
        except (AskFailed, StreamError, TimeoutError, Contended) as e:
            if self._once_per(f"{what}: {type(e).__name__}"):
                log.warning("%s: %s", what, e)
            return self._busy(kind, what, "the hub does not answer in time", HUB_BUSY_SECONDS)

    def _busy(self, kind: type[V], what: str, reason: str, seconds: float) -> V:
        """`busy`, with a time that spreads those who come back."""
        self._counts.busy.add(what=what)
        return kind(verdict="busy", reason=reason, retry_after_seconds=seconds * self._rng.uniform(0.5, 1.5))


def _bounded(health: dict[str, str]) -> dict[str, str]:
    """A beat is not refused for saying too much of its health; it is cut."""
    return {k[:64]: v[:MAX_HEALTH_CHARACTERS] for k, v in list(health.items())[:MAX_HEALTH]}
