"""What operators ask over the bus: cut a node off, let it in again, list the nodes. `unit` serves it.

A node that has never joined can be revoked too: then it will not be let in. Every word is a record of the audit.
"""

import msgspec
from msgspec.structs import replace

from canopy.bus import AskFailed, Bus, Place
from canopy.bus.jsapi import StreamError
from canopy.bus.streams import LastValues, WrongSequence
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import NodeIdentity, NodesAnswer, NodesAsk, RevokeAsk
from canopy.contracts.subject import BadToken
from canopy.contracts.wire import Verdict, encode
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.spire_integration.nodes import Nodes

TRIES = 5
MOST_NODES = 500
"""In one answer."""
MOST_CHARACTERS = 300
AGAIN_SECONDS = 1.0
REVOCATION, RESTORATION = "revocation", "restoration"
_NODE = msgspec.json.Decoder(NodeIdentity)


def revised(known: NodeIdentity | None, ask: RevokeAsk, now_ms: int) -> NodeIdentity | None:
    """The node as the ask wants it; None if it is so already."""
    node = known or NodeIdentity(node=ask.node)
    if ask.restore:
        return replace(node, revoked_at=0, revoked_by="", reason="") if node.revoked_at else None
    by, reason = ask.by[:MOST_CHARACTERS], ask.reason[:MOST_CHARACTERS]
    return None if node.revoked_at else replace(node, revoked_at=now_ms, revoked_by=by, reason=reason)


class Revoking:
    """The list is made of `nodes`, what is known here; a change is made upon what the stream's leader holds."""

    def __init__(self, bus: Bus, stream: LastValues, nodes: Nodes, audit: AuditLog, clock: Clock) -> None:
        self._bus, self._stream, self._nodes, self._audit, self._clock = bus, stream, nodes, audit, clock

    async def open(self) -> None:
        await self._bus.serve(c.IDENTITY_REVOKE, self.revoke)
        await self._bus.serve(c.IDENTITY_NODES, self.list)

    async def revoke(self, ask: RevokeAsk, place: Place[RevokeAsk]) -> Verdict:
        try:
            address = c.NODES.at(node=ask.node)
        except BadToken as e:
            return Verdict(verdict="invalid", reason=str(e))
        try:
            return await self._revised(ask, address)
        except (AskFailed, StreamError) as e:
            return Verdict(verdict="busy", reason=f"the stream NODES: {e}", retry_after_seconds=AGAIN_SECONDS)

    async def list(self, ask: NodesAsk, place: Place[NodesAsk]) -> NodesAnswer:
        if not self._nodes.ready.is_set():
            return NodesAnswer(verdict="busy", reason="still reading NODES", retry_after_seconds=AGAIN_SECONDS)
        most = max(1, min(ask.most, MOST_NODES))
        found = self._nodes.page(ask.after, most + 1)
        last = found[most - 1].node if len(found) > most else ""
        return NodesAnswer(nodes=[replace(node, public_key="") for node in found[:most]], next=last)

    async def _revised(self, ask: RevokeAsk, address: str) -> Verdict:
        for _ in range(TRIES):
            found = await self._stream.get(address)
            known = _NODE.decode(found.data) if found else None
            node = revised(known, ask, self._clock.now_ms())
            if node is None:
                return Verdict(reason="it was so already")
            try:
                await self._stream.put(address, encode(node), found.seq if found else 0)
            except WrongSequence:
                continue
            self._say(ask)
            return Verdict()
        raise StreamError(0, f"{ask.node} is written by others all the time")

    def _say(self, ask: RevokeAsk) -> None:
        what = RESTORATION if ask.restore else REVOCATION
        self._audit.record(what, who=ask.by, subject=ask.node, reason=ask.reason)
