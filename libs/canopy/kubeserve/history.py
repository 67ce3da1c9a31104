"""The last changes, and those who watch them. In memory; `store.py` publishes what is committed, `watch.py` subscribes.

A subscriber that falls too far behind is cut off (its client watches again from where it was), so one slow client
costs a bounded amount of memory.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from canopy.kubeserve.kinds import KindId
from canopy.kubeserve.status import gone, stopping, too_new
from canopy.kubeserve.stored import Change

SUBSCRIBER_LIMIT_EVENTS = 10_000


class Subscription:
    """Changes of one kind from a revision on. `reached` is how far it has been told, also about other kinds."""

    def __init__(self, changes: Sequence[Change], reached: int) -> None:
        self._waiting = deque(changes)
        self._more = asyncio.Event()
        self._reached = reached
        self.cut_off = False
        if changes:
            self._more.set()

    def tell(self, changes: Sequence[Change], reached: int) -> None:
        self._reached = reached
        self._waiting.extend(changes)
        self.cut_off = self.cut_off or len(self._waiting) > SUBSCRIBER_LIMIT_EVENTS
        if changes:
            self._more.set()

    def take(self) -> tuple[list[Change], int]:
        """All that waits, and the revision that one has seen after it."""
        changes = list(self._waiting)
        self._waiting.clear()
        self._more.clear()
        return changes, self._reached

    async def more(self) -> None:
        await self._more.wait()

    def end(self) -> None:
        self.cut_off = True
        self._more.set()


class History:
    """A ring of changes and the subscriptions on it. `revision` is the last one published."""

    def __init__(self, revision: int, limit_events: int) -> None:
        self.revision = revision
        self._oldest = revision  # what happened after it is in the ring
        self._limit_events = limit_events
        self._ring: deque[Change] = deque()
        self._subscriptions: dict[KindId, set[Subscription]] = {}
        self._ended = False

    def publish(self, changes: Sequence[Change]) -> None:
        """Committed changes, in order."""
        self._ring.extend(changes)
        while len(self._ring) > self._limit_events:
            self._oldest = self._ring.popleft().new.revision
        self.revision = changes[-1].new.revision
        of_kind: dict[KindId, list[Change]] = {}
        for change in changes:
            of_kind.setdefault(change.new.kind, []).append(change)
        for kind, subscriptions in self._subscriptions.items():
            for subscription in subscriptions:
                subscription.tell(of_kind.get(kind, ()), self.revision)

    @contextmanager
    def subscribe(self, kind: KindId, after: int) -> Iterator[Subscription]:
        """What happened after that revision and what happens now. Raises Expired, TooLarge or ServiceUnavailable."""
        if self._ended:
            raise stopping()
        subscription = Subscription(self._since(kind, after), self.revision)
        self._subscriptions.setdefault(kind, set()).add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[kind].discard(subscription)

    def _since(self, kind: KindId, after: int) -> list[Change]:
        if after < self._oldest:
            raise gone(after, self._oldest)
        if after > self.revision:
            raise too_new(after, self.revision)
        return [c for c in self._ring if c.new.revision > after and c.new.kind == kind]

    def end(self) -> None:
        """Cut everyone off, and take nobody on any more: the server stops."""
        self._ended = True
        for subscriptions in self._subscriptions.values():
            for subscription in subscriptions:
                subscription.end()
