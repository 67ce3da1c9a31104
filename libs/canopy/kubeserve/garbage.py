"""What goes by itself: objects whose owners are gone, namespaces that have become empty, old Events.

`Collector` hears of each committed change, and works in the background, well within a second.
"""

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime, timedelta

from canopy.kubeserve import kinds
from canopy.kubeserve.state import State
from canopy.kubeserve.status import ApiError
from canopy.kubeserve.store import Store
from canopy.kubeserve.stored import Change, Stored
from canopy.kubeserve.verbs import Clock, Verbs

SWEEP_EVERY_SECONDS = 60.0
_log = logging.getLogger(__name__)


def abandoned(state: State, item: Stored) -> bool:
    """Whether an object named owners and none of them is there."""
    return bool(item.owners) and not any(state.by_uid(o) for o in item.owners)


def suspects(state: State, changes: Iterable[Change]) -> list[Stored]:
    """What a change may have left behind: the owned of what went, and what came with owners."""
    found: list[Stored] = []
    for change in changes:
        if change.type == "DELETED":
            found += state.owned_by(change.new.uid)
            found += _terminating(state, change.new.key[0])
        elif change.new.owners:
            found.append(change.new)
    return found


def _terminating(state: State, namespace: str) -> list[Stored]:
    found = state.find(kinds.NAMESPACE.id, ("", namespace)) if namespace else None
    return [found] if found and "deletionTimestamp" in found.json()["metadata"] else []


def over(state: State, now: datetime, event_ttl_seconds: float) -> list[Stored]:
    """Events that have outlived their time."""
    oldest = (now - timedelta(seconds=event_ttl_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [e for e in state.of(kinds.EVENT.id) if e.json()["metadata"]["creationTimestamp"] < oldest]


class Collector:
    """Deletes in the background what nothing holds any more."""

    def __init__(self, store: Store, verbs: Verbs, clock: Clock, event_ttl_seconds: float) -> None:
        self._store, self._verbs, self._clock = store, verbs, clock
        self._event_ttl_seconds = event_ttl_seconds
        self._changes: list[Change] = []
        self._wake = asyncio.Event()

    def hear(self, changes: list[Change]) -> None:
        """The store's word of a commit."""
        self._changes += changes
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. At start everything is looked at once: what was left when the process ended."""
        self._collect(self._store.state.everything())
        while True:
            try:
                async with asyncio.timeout(SWEEP_EVERY_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._delete(over(self._store.state, self._clock.now(), self._event_ttl_seconds))
            self._wake.clear()
            changes, self._changes = self._changes, []
            self._collect(suspects(self._store.state, changes))

    def _collect(self, found: list[Stored]) -> None:
        state = self._store.state
        current = [o for o in {o.uid: state.by_uid(o.uid) for o in found}.values() if o is not None]
        self._delete([o for o in current if abandoned(state, o) or self._empty_namespace(o)])

    def _empty_namespace(self, item: Stored) -> bool:
        ours = item.kind == kinds.NAMESPACE.id and "deletionTimestamp" in item.json()["metadata"]
        return ours and not self._store.state.within(item.key[1])

    def _delete(self, found: list[Stored]) -> None:
        for item in found:
            try:
                self._verbs.collect(item)
            except ApiError as error:
                _log.warning("cannot collect %s %s: %s", item.kind, item.key, error)
