"""What a revocation does to a node's record, what a replica remembers of it, and what it writes back to a hub."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from canopy.bus.outcome import NoResponders
from canopy.bus.streams import Value, WrongSequence
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import NodeIdentity, RevokeAsk
from canopy.contracts.wire import encode
from canopy.spire_integration.nodes import Nodes
from canopy.spire_integration.revoking import revised
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until

NOW = 1_700_000_000_000
JOINED = NodeIdentity(node="a", public_key="PEM", joined_at=5, by="token 1", not_after=9, serial="f")
CUT = replace(JOINED, revoked_at=7, revoked_by="ann", reason="stolen")
ASK, RESTORE = RevokeAsk(node="a", by="ben", reason="lost"), RevokeAsk(node="a", by="ben", restore=True)


@pytest.mark.parametrize(
    ("what", "known", "ask", "node"),
    [
        ("a node that joined", JOINED, ASK, replace(JOINED, revoked_at=NOW, revoked_by="ben", reason="lost")),
        ("one that never did", None, ASK, NodeIdentity(node="a", revoked_at=NOW, revoked_by="ben", reason="lost")),
        ("one that is cut already", CUT, ASK, None),
        ("it is let in again, and is who it was", CUT, RESTORE, JOINED),
        ("one that was not cut", JOINED, RESTORE, None),
        ("one that nobody knows", None, RESTORE, None),
    ],
)
def test_what_becomes_of_a_node(what, known, ask, node):
    assert revised(known, ask, NOW) == node, what


def test_what_an_operator_says_is_bounded():
    node = revised(None, RevokeAsk(node="a", by="b" * 9999, reason="r" * 9999), NOW)
    assert len(node.revoked_by) == len(node.reason) == 300


class Stream:
    """As much of LastValues as `Nodes` writes."""

    def __init__(self, *failures):
        self.failures, self.written = list(failures), []

    async def put(self, address, data, expect):
        if self.failures:
            raise self.failures.pop(0)
        self.written.append((address, data, expect))
        return 1


class Replica:
    def __init__(self, *failures):
        self.stream, self.heard, self.clock = Stream(*failures), [], FrozenClock()
        self.nodes = Nodes(self.stream, self._hear, self.clock)

    def _hear(self, name, news):
        self.heard.append((name, news))

    def read(self, *nodes, first=1):
        """The stream, read from its beginning."""
        self.nodes._reset()
        for seq, node in enumerate(nodes, first):
            self.say(node, seq)
        self.nodes._caught_up()

    def say(self, node, seq=100):
        self.nodes._heard(Value(c.NODES.at(node=node.node), seq, encode(node)))

    @asynccontextmanager
    async def writing(self):
        task = asyncio.create_task(self.nodes._put_back())
        try:
            yield
        finally:
            task.cancel()


async def test_a_revocation_is_news_only_after_the_first_reading_and_only_once():
    replica = Replica()
    replica.read(CUT)
    replica.say(replace(CUT, node="b"))
    replica.read(CUT, replace(CUT, node="b"))
    assert replica.heard == [("a", False), ("b", True)]
    assert replica.nodes.revoked == {"a", "b"}
    replica.say(JOINED)
    assert replica.nodes.revoked == {"b"} and [n.node for n in replica.nodes.page("a", 9)] == ["b"]


async def test_nobody_is_forgotten_while_the_stream_is_read_anew():
    replica = Replica()
    replica.read(CUT)
    replica.nodes._reset()
    assert replica.nodes.revoked == {"a"} and replica.nodes.known == {"a": CUT}
    replica.read(JOINED)
    assert replica.nodes.revoked == set()


async def test_a_hub_that_has_lost_its_stream_is_told_again_who_is_revoked_and_who_had_joined():
    replica, joined = Replica(NoResponders("away")), replace(JOINED, node="b")
    replica.read(CUT, joined)
    async with replica.writing():
        replica.read()
        assert replica.nodes.revoked == {"a"} and set(replica.nodes.known) == {"a", "b"}
        await until(lambda: replica.clock.sleepers)
        await replica.clock.advance(1)
        told = [(c.NODES.at(node="a"), encode(CUT), 0), (c.NODES.at(node="b"), encode(joined), 0)]
        assert replica.stream.written == told


async def test_a_hub_with_a_stream_of_yesterday_is_told_again_who_was_revoked_since():
    replica = Replica()
    replica.read(JOINED)
    replica.say(CUT)
    async with replica.writing():
        replica.read(JOINED)
        assert replica.nodes.revoked == {"a"} and replica.nodes.known == {"a": CUT}
        await until(lambda: replica.stream.written)
    assert replica.stream.written == [(c.NODES.at(node="a"), encode(CUT), 1)]
    replica.say(JOINED, 3)
    replica.read(JOINED, first=3)
    assert replica.nodes.revoked == set()


async def test_another_replica_or_an_operator_was_quicker():
    replica = Replica(WrongSequence("a"))
    replica.read(CUT)
    async with replica.writing():
        replica.read()
        await until(lambda: not replica.nodes._lost)
    assert replica.stream.written == []


async def test_a_record_of_another_name_than_its_subjects_changes_nothing():
    replica = Replica()
    with pytest.raises(ValueError, match="holds the node"):
        replica.nodes._heard(Value(c.NODES.at(node="b"), 1, encode(CUT)))
    assert replica.nodes.revoked == set()
