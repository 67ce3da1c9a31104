"""One channel of MetaManager: what comes is judged, stored, taken and said, in this order; asks are answered."""

import asyncio
import logging
import sqlite3
from typing import Any

import msgspec

from canopy.bus import AskFailed, Bus, Place, Retry
from canopy.contracts import catalogue as c
from canopy.contracts.wire import LinkState, Nothing, PageAnswer, PageAsk, Push, SetChanged
from canopy.metamanager import rows
from canopy.metamanager.core import Pace, foreign
from canopy.runtime.clock import Clock
from canopy.runtime.equal import Equal
from canopy.runtime.health import Health, Metrics
from canopy.store.errors import StoreError
from canopy.store.sqlite import Database
from canopy.sync.down import Change, Follower, Wanted

log = logging.getLogger("canopy.metamanager")
NOT_PROVEN_SECONDS = 1.0
PAGE_TRIES = 3
STORAGE = (sqlite3.OperationalError, StoreError, OSError)
"""A disk that is full is no bug of one object."""


class Channel:
    """The copy of one set. `run` keeps it equal; `open` serves and hears."""

    def __init__(
        self,
        name: str,
        bus: Bus,
        database: Database,
        stored: rows.Stored,
        pace: Pace,
        clock: Clock,
        health: Health,
        ask_seconds: float,
        equal: Equal | None = None,
    ) -> None:
        self._equal, self._session = equal or Equal("metamanager", Metrics(), clock), 0
        self.name, self._bus, self._database = name, bus, database
        self.follower = Follower(stored.entries, stored.as_of, stored.proven)
        self._cluster = stored.cluster
        self._pace, self._clock, self._health, self._ask_seconds = pace, clock, health, ask_seconds
        self._turn = asyncio.Lock()  # the set in memory and the one in the file are changed and read as one
        self._wake = asyncio.Event()

    async def open(self) -> None:
        """Serve and hear; say what is there."""
        await self._bus.serve(c.META_PAGE, self.on_asked, concurrency=4, channel=self.name)
        await self._bus.hear(c.HUB_PUSH, self.on_push, channel=self.name)
        await self._bus.hear(c.HUB_WANT, self.on_want, channel=self.name)
        await self._bus.hear(c.LINK, self.on_link)
        await self._say(changed=self.follower.proven)

    async def run(self) -> None:
        """Ask for pages when they are due, one at a time, until cancelled."""
        while True:
            await self._until_due()
            self.follower.begin()
            try:
                await self._page()
            except Exception as bug:
                self._bus.letters.failed(f"a page of {self.name}", bug, by_place=True, after=PAGE_TRIES)
                self._failed(bug)

    # --- what comes ---------------------------------------------------------------------------------------------------
    async def on_link(self, state: LinkState, place: Place[Any]) -> None:
        if not state.up:
            self._equal.gone()
        elif state.session != self._session:
            self._session = state.session
            self._equal.began()
        self._pace.on_link(state.up, state.session, self._clock.monotonic())
        self._wake.set()

    async def on_want(self, _: Nothing, place: Place[Any]) -> None:
        self._pace.hurry(self._clock.monotonic())
        self._wake.set()

    async def on_push(self, push: Push, place: Place[Any]) -> None:
        change, now = await self._take(push), self._clock.monotonic()
        if change is not None:
            self._pace.on_push(change.equal, now)
        elif push.hash != self.follower.entries.hash:
            self._pace.on_refused(now)
        self._wake.set()

    async def on_asked(self, ask: PageAsk, place: Place[Any]) -> PageAnswer:
        """A page of the proven set for a unit of this node (RULES 9)."""
        async with self._turn:
            follower = self.follower
            if not follower.proven or follower.mark.as_of is None:
                raise Retry("the set is not proven to equal the cloud's yet", NOT_PROVEN_SECONDS)
            as_of, cluster = follower.mark.as_of, self._cluster
            return await self._database.read(
                lambda connection: Wanted.over(follower.entries, rows.loader(connection, self.name)).answer(
                    ask, as_of, cluster
                )
            )

    # --- the pass -----------------------------------------------------------------------------------------------------
    async def _page(self) -> None:
        try:
            answer = await self._bus.ask(c.HUB_PAGE, self.follower.ask(), timeout=self._ask_seconds, channel=self.name)
        except (AskFailed, msgspec.DecodeError) as e:
            return self._failed(e)
        if answer.verdict != "ok":
            return self._failed(Retry(f"{answer.verdict} {answer.reason}", answer.retry_after_seconds))
        change = await self._take(answer)
        goes_on = answer.next is not None
        if change is not None and self.follower.proven and not self.follower.passing:
            self._equal.reached()
        self._pace.on_page(change is not None, self.follower.passing, goes_on, self._clock.monotonic())

    def _failed(self, e: Exception) -> None:
        log.debug("no page of %s: %s", self.name, e)
        after = e.after_seconds if isinstance(e, Retry) else 0.0
        self._pace.on_failure(self._clock.monotonic(), after)

    async def _until_due(self) -> None:
        while (left := self._pace.due - self._clock.monotonic()) > 0:
            await self._clock.wait(self._wake, left)

    async def _take(self, message: PageAnswer | Push) -> Change | None:
        """Judge, store, commit; None if it was refused."""
        async with self._turn:
            before = (self.follower.proven, self.follower.entries.hash)
            change = self._judged(message)
            if change is not None:
                await self._store(change, message.cluster or self._cluster)
            self.follower.after(message, change)
            after = (self.follower.proven, self.follower.entries.hash)
        await self._say(changed=after != before and after[0])
        return change

    def _judged(self, message: PageAnswer | Push) -> Change | None:
        if foreign(message.cluster, message.as_of, self._cluster, self.follower.mark.as_of):
            log.error("%s: a message of cluster %s; ours is %s: refused", self.name, message.cluster, self._cluster)
            return None
        return self.follower.judge(message)

    async def _store(self, change: Change, cluster: str) -> None:
        mark = self.follower.mark
        same = (change.as_of, change.proven, cluster) == (mark.as_of, mark.proven, self._cluster)
        if change.puts or change.deletes or not same:
            try:
                await self._database.run(lambda connection: rows.store(connection, self.name, change, cluster))
            except STORAGE:
                raise
            except Exception:
                await self._store_apart(change, cluster)
        self.follower.commit(change)
        self._cluster = cluster

    async def _store_apart(self, change: Change, cluster: str) -> None:
        """One object must not keep the others out."""
        failed = await self._database.run(lambda connection: rows.store_apart(connection, self.name, change, cluster))
        for put, bug in failed:
            self._bus.letters.failed("/".join(put.entry.key), bug, bytes(put.body))

    async def _say(self, changed: bool) -> None:
        mark, proven = self.follower.mark, self.follower.proven
        told = "" if proven else "not proven to equal the cloud's yet"
        self._health.set(self.name, proven, told)
        if changed and mark.as_of is not None:
            word = SetChanged(as_of=mark.as_of, hash=self.follower.entries.hash)
            await self._bus.say(c.META_CHANGED, word, channel=self.name)
