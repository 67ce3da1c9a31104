"""Keeps a replica's view of TWINS, its nonces and its watchers in step with the streams. `unit` runs it."""

import asyncio
import logging

from canopy.bus.streams import Follow, LastValues, Value
from canopy.cloudhub.records import readable
from canopy.cloudhub.sessions import Nonces
from canopy.cloudhub.view import View
from canopy.cloudhub.watching import Watchers
from canopy.contracts.catalogue import SESSIONS, TWINS
from canopy.runtime.health import Health

log = logging.getLogger("canopy.cloudhub")


class Following:
    """Two readers of streams. `ready` is set as long as both have all that the streams hold."""

    def __init__(
        self,
        twins: LastValues,
        sessions: LastValues,
        view: View,
        nonces: Nonces,
        watchers: Watchers,
        health: Health,
    ) -> None:
        self._twins, self._sessions, self._view, self._nonces = twins, sessions, view, nonces
        self._watchers, self._health = watchers, health
        self.ready = asyncio.Event()
        self._nonces_known = False

    async def run(self) -> None:
        """Until cancelled."""
        twins = Follow(
            self._twins,
            TWINS.wild(),
            on_reset=self._reset_twins,
            on_value=self._twin,
            on_caught_up=self._twins_caught_up,
        )
        sessions = Follow(
            self._sessions,
            SESSIONS.wild(),
            on_reset=self._reset_sessions,
            on_value=self._nonces.take,
            on_caught_up=self._sessions_caught_up,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(twins.run())
            group.create_task(sessions.run())

    def _twin(self, value: Value) -> None:
        tokens, record = TWINS.tokens(value.subject), readable(value)
        if tokens is None or not record.entry.uid:
            return
        newer = self._view.put(tokens["node"], record)
        if newer and self._view.caught_up:
            self._watchers.changed(tokens["node"], record.entry.key, value.data)

    def _reset_twins(self) -> None:
        self._view.reset()
        self._judge()

    def _twins_caught_up(self) -> None:
        self._view.caught_up = True
        self._watchers.begin_again()
        self._judge()

    def _reset_sessions(self) -> None:
        self._nonces_known = False
        self._nonces.reset()
        self._judge()

    def _sessions_caught_up(self) -> None:
        self._nonces_known = True
        self._judge()

    def _judge(self) -> None:
        behind = [n for n, ok in (("TWINS", self._view.caught_up), ("SESSIONS", self._nonces_known)) if not ok]
        self._health.set("streams", not behind, f"reading {' and '.join(behind)}" if behind else "")
        if behind:
            self.ready.clear()
        else:
            self.ready.set()
