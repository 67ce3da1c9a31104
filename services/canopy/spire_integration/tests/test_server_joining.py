"""Joining with a real hub, real TLS and two replicas that share keys, streams and authority."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from canopy.bus.bus import Bus
from canopy.bus.streams import LastValues, WrongSequence
from canopy.contracts.catalogue import IDENTITY_TOKEN, NODES
from canopy.contracts.identity_wire import NodeIdentity, TokenAsk
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.identity import keys
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.join import Credential, JoinSource, join, renew
from canopy.identity.joining_http import JoinRefused, NotTheEndpoint, Unreachable
from canopy.identity.joining_words import Token, parse
from canopy.identity.joinstate import JoinState, OtherNode
from canopy.identity.svid import certificates, new_key
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import SystemClock
from canopy.runtime.health import Health
from canopy.runtime.metrics import Metrics
from canopy.spire_integration import joining_unit
from canopy.spire_integration.joining_settings import JoiningSettings
from canopy.spire_integration.joining_shelf import Kept
from canopy.spire_integration.tests.joining_world import TD, Memory
from canopy.testing import manufacturing
from canopy.testing import world as worlds
from canopy.testing.wait import until

pytestmark = pytest.mark.server
TTL, GRACE, CA = 100, 1000, 5_000.0
LOOK_SECONDS = 0.01


class Travelling(SystemClock):
    """The machine's clock, some time ahead."""

    ahead = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round(self.ahead * 1000)

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Jumping(Travelling):
    """For the node's end: once it `jumps`, a sleep passes at once for everybody who shares `of`."""

    def __init__(self, of: Travelling) -> None:
        self.of, self.jumps, self.slept = of, False, 0

    def now_ms(self) -> int:
        return self.of.now_ms()

    async def sleep(self, seconds: float) -> None:
        self.slept += 1
        self.of.ahead += seconds if self.jumps else 0.0
        await asyncio.sleep(0 if self.jumps else LOOK_SECONDS)


class World:
    def __init__(self, fleet: worlds.World, cloudhub: Bus, nodes: LastValues) -> None:
        self.fleet, self.cloudhub, self.nodes = fleet, cloudhub, nodes
        self.folder, self.clock = fleet.folder, Travelling()
        self.authority = Builtin(self.folder / "travelling", TD, ca_ttl_seconds=CA, clock=self.clock)
        self.log = AuditLog("spire_integration", self.clock)
        self.served: list[joining_unit.Served] = []
        self.stops: list[AsyncExitStack] = []

    async def replica(self, keys: str = "keys", **settings: Any) -> joining_unit.Served:
        bus, mine = await unit_bus(self.fleet), AsyncExitStack()
        self.fleet.stack.push_async_callback(mine.aclose)
        given = {"join_listen": "127.0.0.1:0", "node_ttl_seconds": TTL, "node_grace_seconds": GRACE}
        parts = joining_unit.Parts(
            bus, self.authority, self.log.record, self.clock, Metrics(), Health("spire_integration"),
            JoiningSettings(**(given | {"join_burst": 10_000} | settings)), TD, self.folder / keys,
        )  # fmt: skip
        served = await mine.enter_async_context(joining_unit.serve(parts))
        self.served.append(served)
        self.stops.append(mine)
        return served

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(served.url for served in self.served)

    async def token(self, node: str, **more: Any) -> Token:
        answer = await self.cloudhub.ask(IDENTITY_TOKEN, TokenAsk(node=node, by="ann", **more), timeout=5)
        assert answer.verdict == "ok", answer
        return parse(answer.token)

    async def join(self, folder: str, token: Token, node: str = "", urls: tuple[str, ...] = ()) -> Identity:
        way = (urls or self.urls, token.root, Credential(token.id, token.secret))
        return await join(self.folder / folder, node or token.node, *way, clock=self.clock)

    async def node(self, name: str, **changed: Any) -> NodeIdentity:
        """What the stream holds; with some fields as an operator changes them."""
        address = NODES.at(node=name)
        value = await self.nodes.get(address)
        assert value is not None
        found = msgspec.structs.replace(msgspec.json.decode(value.data, type=NodeIdentity), **changed)
        if changed:
            await self.nodes.put(address, msgspec.json.encode(found), value.seq)
        return found


async def unit_bus(fleet: worlds.World) -> Bus:
    """As the unit itself is connected: by its nkey."""
    return await fleet.opened(await fleet.at_hub(SPIRE_INTEGRATION, fleet.keys.cloud), SPIRE_INTEGRATION)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds.open_world(tmp_path) as fleet:
        nodes = LastValues(await unit_bus(fleet), "NODES")
        await nodes.ensure()
        world = World(fleet, await fleet.cloud("cloudhub"), nodes)
        for _ in range(2):
            await world.replica()
        yield world


async def why(work: Any) -> str:
    with pytest.raises(JoinRefused) as refused:
        await work
    return refused.value.error


async def test_a_node_joins_renews_long_after_its_end_and_is_kept_out_when_revoked(world: World) -> None:
    token = await world.token("edge.1")
    assert token.url in world.urls
    first = await world.join("one", token)
    assert str(first.svid.id) == f"spiffe://{TD}/node/edge.1" and first.left_seconds(world.clock.now_ms() / 1000) <= TTL
    state = JoinState.read(world.folder / "one")
    world.clock.ahead += TTL + GRACE - 5  # away for ten lifetimes
    second = await renew(state, world.clock)
    keys = {certificates(one.svid.chain_pem)[0].public_key().public_numbers() for one in (first, second)}  # type: ignore[union-attr]
    assert len(keys) == 2 and state.kept() == second
    world.clock.ahead += TTL + GRACE + 5
    assert await why(renew(state, world.clock)) == "late"
    assert state.kept() is not None
    await world.join("one", await world.token("edge.1"))  # the same machine, let in anew
    await world.node("edge.1", revoked_at=1, reason="stolen")
    assert await why(renew(state, world.clock)) == "revoked"
    answer = await world.cloudhub.ask(IDENTITY_TOKEN, TokenAsk(node="edge.1"))
    assert (answer.verdict, "stolen" in answer.reason) == ("invalid", True)
    await world.node("edge.1", revoked_at=0)
    assert await renew(state, world.clock)
    outcomes = [(r.what, r.outcome) for r in world.log.waiting(100)]
    assert outcomes == [
        *[("token", "ok"), ("join", "ok"), ("renewal", "ok"), ("renewal", "refused")],
        *[("token", "ok"), ("join", "ok"), ("renewal", "refused"), ("renewal", "ok")],
    ]


async def test_of_two_that_use_a_token_at_two_replicas_at_once_exactly_one_wins(world: World) -> None:
    for round in range(5):
        token = await world.token(f"edge-{round}")
        tries = [world.join(f"{round}-{i}", token, urls=(world.urls[i],)) for i in range(2)]
        ended = await asyncio.gather(*tries, return_exceptions=True)
        assert sorted(type(one).__name__ for one in ended) == ["Identity", "JoinRefused"]
        winner = next(i for i, one in enumerate(ended) if isinstance(one, Identity))
        stored = await world.node(f"edge-{round}")
        won = JoinState.read(world.folder / f"{round}-{winner}")
        lost = JoinState.begin(world.folder / f"{round}-{1 - winner}", won.node, won.urls, won.root_pem)
        assert stored.public_key.encode() == won.public_key_pem != lost.public_key_pem
        assert await why(renew(lost, world.clock)) == "unknown"


async def test_tokens_for_another_node_late_and_of_another_fleet_are_refused(world: World) -> None:
    token = await world.token("edge-1", ttl_seconds=10)
    assert await why(world.join("two", token, node="edge-2")) == "other-node"
    world.clock.ahead += 11
    assert await why(world.join("one", token)) == "late"
    token = await world.token("edge-3")
    other = await world.replica("other-keys")
    with pytest.raises(NotTheEndpoint, match=other.fingerprint):
        await world.join("three", token, urls=(other.url,))


async def test_a_machine_joins_by_its_makers_certificate_over_the_endpoint(world: World) -> None:
    acme, key = manufacturing.Maker(), new_key()
    makers = world.folder / "makers.pem"
    makers.write_bytes(manufacturing.pem(acme.certificate()))
    served = await world.replica(join_makers=str(makers), join_maker_names="edge-{serial}")
    chain = manufacturing.pem(acme.signed(manufacturing.serial("7"), keys.load(key).public_key()))
    way = ((served.url,), served.fingerprint, Credential(chain_pem=chain, key_pem=key))
    joined = await join(world.folder / "seven", "edge-7", *way, clock=world.clock)
    assert str(joined.svid.id) == f"spiffe://{TD}/node/edge-7"
    assert (await world.node("edge-7")).by.startswith("manufacturer: ")
    assert await why(join(world.folder / "eight", "edge-8", *way, clock=world.clock)) == "name"
    assert await renew(JoinState.read(world.folder / "seven"), world.clock)


async def test_a_node_finds_the_replica_that_is_left_and_no_endpoint_of_another_root(world: World) -> None:
    await world.join("one", await world.token("edge-1"))
    state = JoinState.read(world.folder / "one")
    await world.stops[0].aclose()
    assert await renew(state, world.clock)
    await world.stops[1].aclose()
    with pytest.raises(Unreachable):
        await renew(state, world.clock)
    port = int(world.urls[1].rpartition(":")[2])
    await world.replica("made-anew", join_listen=f"127.0.0.1:{port}")
    with pytest.raises(NotTheEndpoint, match="self-signed certificate"):
        await renew(JoinState(state.folder, "edge-1", world.urls[1:2], state.root_pem, state.key_pem), world.clock)
    with pytest.raises(OtherNode, match="is of the node edge-1"):
        JoinState.begin(state.folder, "edge-2", world.urls, state.root_pem)


async def test_a_source_renews_at_half_life_and_follows_the_roots_after_a_long_absence(world: World) -> None:
    clock = Jumping(world.clock)
    source = JoinSource(world.folder / "one", clock=clock, rng=random.Random(1))
    waiting = asyncio.create_task(source.first())
    await until(lambda: clock.slept > 1)
    assert not waiting.done() and source.kept() is None
    joined = await world.join("one", await world.token("edge-1"))
    async with asyncio.timeout(10):
        assert (await waiting).svid.id == joined.svid.id
        clock.jumps = True
        changes, serials, began = source.changes(), set(), world.clock.now_ms()
        for _ in range(5):
            serials.add((await anext(changes)).svid.serial)
        lives = (world.clock.now_ms() - began) / 1000 / TTL
        assert len(serials) == 5 and 2 <= lives <= 3.5
        await world.node("edge-1", not_after=world.clock.now_ms() + 100 * round(CA) * 1000)  # a grace that lasts
        old = (await source.first()).bundle
        world.clock.ahead += 3 * CA  # away for longer than the authority's roots live
        back = await anext(changes)
        assert not set(back.bundle.roots_pem) & set(old.roots_pem)
        assert back.left_seconds(world.clock.now_ms() / 1000) > 0


async def test_roots_are_handed_out_first_and_believed_also_when_the_rest_is_refused(world: World) -> None:
    joined = await world.join("one", await world.token("edge-1"))
    await world.node("edge-1", revoked_at=1)
    world.clock.ahead += CA * 0.6  # the next root has been made
    state = JoinState.read(world.folder / "one")
    assert await why(renew(state, world.clock)) == "revoked"
    kept = state.kept()
    assert kept is not None and kept.svid == joined.svid
    assert len(kept.bundle.roots_pem) == 2 and len(joined.bundle.roots_pem) == 1


async def test_what_the_shell_keeps_in_is_written_by_compare_and_set_in_memory_too(world: World) -> None:
    await compare_and_set(world.nodes)
    await compare_and_set(Memory())


async def compare_and_set(kept: Kept) -> None:
    address = NODES.at(node="edge-9")
    assert await kept.get(address) is None
    first = await kept.put(address, b"a", 0)
    with pytest.raises(WrongSequence):
        await kept.put(address, b"b", 0)
    second = await kept.put(address, b"c", first)
    assert second > first
    found = await kept.get(address)
    assert found is not None and (found.subject, found.seq, found.data) == (address, second, b"c")
