"""A node whose owner does with its leaf what he likes: its certificate is good, its nats-server bounds nobody. What it
says, asks and hears of the hub and of another node, by any subject, wildcard, inbox and reply subject.

The other node is in the same account of the hub: the closest that two can be.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from raw_leaf import RawLeaf, context_of

from canopy.bus import Bus, Connection
from canopy.bus.admission import Admitted
from canopy.bus.config import domain, node_account
from canopy.bus.environment import Environment
from canopy.bus.matrix import NODE, OWN, cell, families
from canopy.bus.matrix import at_hub as peers_at_hub
from canopy.bus.rights import Permissions
from canopy.bus.streams import LastValues
from canopy.contracts import catalogue as c
from canopy.contracts import wire
from canopy.contracts.roles import STREAMS
from canopy.edgehub import unit as edgehub
from canopy.identity import ids
from canopy.testing.admits import Admits
from canopy.testing.domain import TD
from canopy.testing.node import Node
from canopy.testing.wait import until
from canopy.testing.world import World, open_world, running

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("hostile")]
OTHER_STREAMS = {f".{name}" for name in STREAMS if name != "TWINS"}
FAMILIES = [f for f in families() if not any(name in f.address for name in OTHER_STREAMS)]
"""Of the streams one: a node's rights do not tell them apart."""
AT_ONCE = 6
VICTIM = next(name for i in range(1000) if node_account(name := f"edge-{i}") == node_account(NODE))
GOD = "god"
NONCE = "a-nonce-that-only-the-cloud-and-its-session-know"
AS_OF = wire.AsOf(epoch=1, revisions={"Device": 1})
PUSH = wire.Push(as_of=AS_OF, hash="00")
PAGE = wire.PageAnswer(as_of=AS_OF, hash="11")
"""It reads like a push."""
ALL = Permissions((">",), (">",))
(NODE_PEER,) = (peer for peer in peers_at_hub() if peer.way == "leaf node")


@dataclass
class Heard:
    """What a connection that hears everything has heard."""

    connection: Connection
    came: list[tuple[str, bytes, str]] = field(default_factory=list)

    async def all(self) -> "Heard":
        await self.connection.subscribe(">", self._take)
        await self.connection.flush()
        return self

    async def _take(self, message: Any) -> None:
        self.came.append((message.subject, message.data, message.reply))

    def of(self, mark: bytes) -> set[str]:
        return {subject for subject, data, _ in self.came if mark in data}


@dataclass
class Stage:
    world: World
    hub: Heard
    """In CLOUD, with every right: nobody of the system has it."""
    cloudhub: Bus
    victim: Environment
    """Of the other node's EdgeHub, which runs."""
    pushed: list[bytes]
    """What it took for pushes of the cloud, and handed on."""
    on_victims_leaf: list[tuple[str, bytes]]
    """What came into its leaf."""

    def push(self, node: str, nonce: str) -> str:
        return c.PUSH.at(node=node, nonce=nonce, channel=c.DEVICES_CHANNEL)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    admits = lambda keys: Admits(keys.issuer, more={GOD: Admitted("CLOUD", ALL)})  # noqa: E731
    async with open_world(tmp_path_factory.mktemp("hostile"), answers=admits) as world:
        folder = await world.files(ids.cloud(TD, "cloud"))
        god = await world.connect(folder, world.hub.client_url, ids.hub(TD), name=GOD)
        cloudhub = await world.cloud("cloudhub")
        await _served(cloudhub)
        await world.leaf(VICTIM)
        pushed, seen = await _seen(world.nodes[VICTIM])
        environment = await world.environment("edgehub", VICTIM)
        async with running(edgehub.build(environment)):
            await until(lambda: _up(environment), 20)
            yield Stage(world, await Heard(god).all(), cloudhub, environment, pushed, seen)


async def _served(cloudhub: Bus) -> None:
    """Asks that are answered."""

    async def hello(ask: wire.Hello, place: Any) -> wire.HelloAnswer:
        return wire.HelloAnswer(session=6, nonce=NONCE, protocol=wire.PROTOCOL[1], time=1, cluster="uid")

    async def beat(ask: wire.Beat, place: Any) -> wire.BeatAnswer:
        return wire.BeatAnswer()

    async def page(ask: wire.PageAsk, place: Any) -> wire.PageAnswer:
        return PAGE

    await cloudhub.serve(c.HELLO, hello)
    await cloudhub.serve(c.BEAT, beat)
    await cloudhub.serve(c.PAGE, page, concurrency=8)


async def _seen(victim: Node) -> tuple[list[bytes], list[tuple[str, bytes]]]:
    metamanager, edgehub_too = await victim.bus("metamanager"), await victim.at_leaf("edgehub")
    pushed, seen = list[bytes](), list[tuple[str, bytes]]()

    async def push(message: wire.Push, place: Any) -> None:
        pushed.append(wire.encode(message))

    async def take(message: Any) -> None:
        seen.append((message.subject, message.data))

    await metamanager.hear(c.HUB_PUSH, push)
    await edgehub_too.subscribe(f"node.{VICTIM}.in.>", take)
    return pushed, seen


def _up(environment: Environment) -> bool:
    return "canopy_edgehub_up 1" in environment.metrics.text()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attack(stage: Stage) -> AsyncIterator[Callable[[], Awaitable[RawLeaf]]]:
    """A new leaf of the attacker, let in with his good certificate."""
    world, number = stage.world, itertools.count()
    node = await world.node(NODE)
    context = context_of(node.folder / "link", node.folder / "link" / "bundle.pem")

    async def begin() -> RawLeaf:
        return await RawLeaf.open(world.hub.leaf_port, context, f"{NODE}-{next(number)}")

    yield begin


Attack = Callable[[], Awaitable[RawLeaf]]


async def test_nothing_that_a_node_says_gets_in_but_its_own_asks(stage: Stage, attack: Attack) -> None:
    mark = b"said by the attacker"
    addresses = [f.address for f in FAMILIES if not set(f.address) & set("*>")]

    async def say(address: str) -> None:
        async with await attack() as leaf:
            leaf.say(address, mark)
            await leaf.pinged()

    await _each(say, (*addresses, "$JS.hub.API.STREAM.DELETE.TWINS", "$JS.hub.API.STREAM.MSG.GET.TWINS"))
    allowed = {f.address for f in FAMILIES if "p" in cell(NODE_PEER, f)}
    assert len(allowed) == 8
    await until(lambda: stage.hub.of(mark) >= allowed, 10)
    assert stage.hub.of(mark) == allowed
    assert [subject for subject, body in stage.on_victims_leaf if mark in body] == []


async def test_a_node_hears_nothing_but_what_is_for_it(stage: Stage, attack: Attack) -> None:
    """All that the hub's units say and are asked, the other node's pushes and answers; by any subject and wildcard."""
    mark, leaves = b"said at the hub", list[RawLeaf]()

    async def subscribe(subject: str) -> None:
        leaves.append(leaf := await attack())
        leaf.subscribe(subject)
        await leaf.pinged()

    try:
        wild = ("*", "*.*.*.*", "_R_.>", "*.*.in.>", f"node.{VICTIM}.in.>")
        await _each(subscribe, (*(f.address for f in FAMILIES), *wild))
        for family in FAMILIES:
            if not set(family.address) & set("*>"):
                await stage.hub.connection.publish(family.address, mark)
        for node in (VICTIM, NODE):
            await stage.cloudhub.say(c.PUSH, PUSH, node=node, nonce=NONCE, channel=c.DEVICES_CHANNEL)
        await stage.cloudhub.connection.flush()
        own = {stage.push(NODE, NONCE), stage.push(NODE, OWN["nonce"])}
        await until(lambda: own <= {subject for leaf in leaves for subject, *_ in leaf.messages} and stage.pushed, 10)
        assert {subject for leaf in leaves for subject, *_ in leaf.messages} == own
    finally:
        for leaf in leaves:
            await leaf.close()
    assert stage.pushed == [wire.encode(PUSH)], "the other node's own is handed on there"


async def test_a_reply_subject_makes_nobody_say_anything_elsewhere(stage: Stage, attack: Attack) -> None:
    """The answer to a node's ask, which reads like a push, is no other's push and in no stream, and deletes nothing.

    A hub brings an answer to whatever subject of the same account was named: into the other leaf's `in`, where EdgeHub
    takes nothing that bears neither the nonce of its session nor the number of an ask of its own.
    """
    stage.hub.came.clear()
    stage.pushed.clear()
    twins = LastValues(stage.cloudhub, "TWINS")
    await twins.ensure()
    stored = await twins.put(_twin(), b"the victim's", None)
    replies = [f.address for f in FAMILIES if not set(f.address) & set("*>")]
    replies += [_twin(), "$JS.API.STREAM.DELETE.TWINS", "$JS.API.STREAM.PURGE.TWINS"]
    replies += [stage.push(VICTIM, "guessed"), c.LINK_INBOX.at(node=VICTIM, asker="a", id="1")]
    last = c.LINK_INBOX.at(node=NODE, asker="a", id="last")
    async with await attack() as leaf:
        leaf.subscribe(f"node.{domain(NODE)}.in.>")
        for reply in (*replies, last):
            leaf.say(c.PAGE.at(node=NODE, channel=c.DEVICES_CHANNEL), wire.encode(wire.PageAsk()), reply)
        await until(lambda: last in {subject for subject, *_ in leaf.messages}, 10)
        assert leaf.errors == []
    assert {s for s, body, _ in stage.hub.came if body == wire.encode(PAGE) and not s.startswith("_R_.")} == set()
    found = await twins.get(_twin())
    assert found is not None and found.data == b"the victim's" and (await twins.created())[1] == stored
    await until(lambda: stage.push(VICTIM, "guessed") in {subject for subject, _ in stage.on_victims_leaf}, 10)
    await until(lambda: 'canopy_edgehub_pushes_total{outcome="dropped"} ' in stage.victim.metrics.text(), 10)
    assert stage.pushed == [] and _up(stage.victim)


async def _each(work: Callable[[str], Awaitable[None]], subjects: Iterable[str]) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(subject: str) -> None:
        async with turn:
            await work(subject)

    await asyncio.gather(*map(one, subjects))


def _twin() -> str:
    return c.TWINS.at(node=VICTIM, namespace="default", name="lamp")
