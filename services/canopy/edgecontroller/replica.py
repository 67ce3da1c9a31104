"""What this replica knows: who was heard, and which Nodes there are. The bus and an informer write it; the leader acts
on it. Every replica hears, so that a new leader knows who was heard."""

from collections.abc import Callable

import msgspec

from canopy.bus import Place
from canopy.contracts.wire import Presence
from canopy.edgecontroller.core import Heard, NodeSeen
from canopy.edgecontroller.counts import Counts
from canopy.runtime.clock import Clock

FORGET_MS = 3_600_000
"""A node without a Node that was silent for so long is forgotten."""
MOST_NODES = 200_000


class Replica:
    """`mark` is there while it leads; `listening_since` is None while the hub is away."""

    def __init__(self, clock: Clock, counts: Counts) -> None:
        self._clock, self._counts = clock, counts
        self.heard: dict[str, Heard] = {}
        self.nodes: dict[str, NodeSeen] = {}
        self.synced = False
        self.listening_since: int | None = clock.now_ms()
        self.mark: Callable[[str], None] | None = None

    async def hear(self, presence: Presence, place: Place[Presence]) -> None:
        """The node is the subject's, never the body's. The time is ours: clocks differ."""
        node = place["node"]
        if node not in self.heard and len(self.heard) >= MOST_NODES:
            return self._counts.dropped.add()
        self._counts.heard.add()
        said = presence if presence.node == node else msgspec.structs.replace(presence, node=node)
        self.heard[node] = Heard(self._clock.now_ms(), said)
        self.touch(node)

    def node(self, name: str, new: NodeSeen | None) -> None:
        """A Node came, changed or went."""
        if new is None:
            self.nodes.pop(name, None)
        else:
            self.nodes[name] = new
        self.touch(name)

    def touch(self, name: str) -> None:
        if self.mark is not None:
            self.mark(name)

    def connected(self, yes: bool) -> None:
        """After the hub was away everyone has to be heard anew before anyone counts as gone."""
        if not yes:
            self.listening_since = None
        elif self.listening_since is None:
            self.listening_since = self._clock.now_ms()

    def forget(self) -> None:
        """Drop nodes that are no Node and were silent for long."""
        oldest = self._clock.now_ms() - FORGET_MS
        for name in [n for n, h in self.heard.items() if h.at < oldest and n not in self.nodes]:
            del self.heard[name]
