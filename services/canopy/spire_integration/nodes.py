"""The stream NODES as this replica knows it: which nodes have joined and which are cut off, so that an admission asks
nobody. `callout` reads it, `cutting` acts on it, `revoking` writes the stream.

While the stream is read anew (a reconnect, a gap) what was known before stays true. A hub that has lost the stream
gets back who had joined, by which key, and who is cut off, from whoever remembers it; one that has an older stream (a
volume of yesterday) who was cut off since.
"""

import asyncio
import logging
from collections.abc import Callable

import msgspec

from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import Follow, LastValues, Value, WrongSequence
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import NodeIdentity
from canopy.contracts.wire import encode
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.spire_integration")
_NODE = msgspec.json.Decoder(NodeIdentity)
AGAIN_SECONDS = 1.0


class Nodes:
    """`run` follows until cancelled. `on_revoked` hears of each node that is cut off, and whether that is news."""

    def __init__(
        self, stream: LastValues, on_revoked: Callable[[str, bool], None], clock: Clock, replicas: int = 1
    ) -> None:
        self._stream, self._on_revoked, self._clock, self._replicas = stream, on_revoked, clock, replicas
        self.known: dict[str, NodeIdentity] = {}
        self.revoked: set[str] = set()
        self.ready = asyncio.Event()
        """Set once the stream has been read; before that nobody may be let in."""
        self._reading: dict[str, NodeIdentity] | None = None
        self._seqs: dict[str, int] = {}
        """Where in the stream each of `known` was read."""
        self._lost: dict[str, tuple[NodeIdentity, int]] = {}
        """What is to be put back, and in the place of which sequence."""
        self._found_lost = asyncio.Event()

    async def run(self) -> None:
        hearing = {"on_reset": self._reset, "on_value": self._heard, "on_caught_up": self._caught_up}
        follow = Follow(self._stream, c.NODES.wild(), **hearing, ensure=self._ensure)  # type: ignore[arg-type]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow.run())
            tasks.create_task(self._put_back())

    def page(self, after: str, most: int) -> list[NodeIdentity]:
        """At most so many, sorted, whose names come after `after`."""
        names = sorted(name for name in self.known if name > after)[:most]
        return [self.known[name] for name in names]

    async def _ensure(self) -> None:
        await self._stream.ensure(replicas=self._replicas)

    def _reset(self) -> None:
        self._reading = {}

    def _heard(self, value: Value) -> None:
        node = _NODE.decode(value.data)
        if (c.NODES.tokens(value.subject) or {}).get("node") != node.node:
            raise ValueError(f"{value.subject} holds the node {node.node!r}")
        if self._reading is not None:
            if self._older(node, value.seq):
                node = self.known[node.node]
                self._lost[node.node] = (node, value.seq)
            self._reading[node.node] = node
        self._seqs[node.node] = value.seq
        self._take(node)

    def _older(self, node: NodeIdentity, seq: int) -> bool:
        """Whether this stream has not heard yet that the node was cut off. Sequences only rise, so it was put back."""
        return node.node in self.revoked and not node.revoked_at and seq < self._seqs[node.node]

    def _take(self, node: NodeIdentity) -> None:
        self.known[node.node] = node
        if not node.revoked_at:
            self.revoked.discard(node.node)
        elif node.node not in self.revoked:
            self.revoked.add(node.node)
            self._on_revoked(node.node, self.ready.is_set())

    def _caught_up(self) -> None:
        """What the stream does not hold any more has gone with the hub's volume: nobody removes a node."""
        read, self._reading = self._reading or {}, None
        self._lost |= {name: (node, 0) for name, node in self.known.items() if name not in read}
        self.known = {**read, **{name: node for name, (node, _) in self._lost.items()}}
        self._found_lost.set()
        self.ready.set()

    async def _put_back(self) -> None:
        while True:
            await self._found_lost.wait()
            self._found_lost.clear()
            while self._lost:
                name, (node, place) = next(iter(self._lost.items()))
                if await self._written(node, place):
                    del self._lost[name]
                else:
                    await self._clock.sleep(AGAIN_SECONDS)

    async def _written(self, node: NodeIdentity, place: int) -> bool:
        try:
            await self._stream.put(c.NODES.at(node=node.node), encode(node), expect=place)
            log.warning("the hub had lost what became of the node %s: it is told again", node.node)
        except WrongSequence:
            pass  # another replica was quicker, or an operator
        except (AskFailed, StreamError):
            return False
        return True
