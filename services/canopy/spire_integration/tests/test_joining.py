"""Joining and renewing with a real authority and keys; streams in memory, the clock in hand."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from canopy.contracts.catalogue import NODES
from canopy.contracts.identity_wire import NodeIdentity, TokenAsk
from canopy.identity import ids, joinroot, keys
from canopy.identity.authority import AuthorityAway
from canopy.identity.builtin import Builtin
from canopy.identity.chains import verify_chain
from canopy.identity.joining_words import JoinAsk, Joined, RenewAsk, Token, join_bytes, parse, to_text
from canopy.identity.svid import BadCsr, Bundle, Csr, new_key, public_key, read_csr, sign
from canopy.runtime.audit import AuditLog
from canopy.spire_integration import joining as module
from canopy.spire_integration.joining import Joining
from canopy.spire_integration.joining_proofs import Rules
from canopy.spire_integration.tests.joining_world import TD, Machine, Memory
from canopy.spire_integration.tokens import Refused
from canopy.testing import manufacturing
from canopy.testing.clock import FrozenClock

GRACE, TTL = 600, 60
ROOT = joinroot.new(TD, 1_700_000_000)


class Cloud:
    """Replicas of the shell over the same streams."""

    def __init__(self, folder: Path, replicas: int = 1, **rules: Any) -> None:
        self.clock = FrozenClock()
        self.authority = Builtin(folder / "authority", TD, clock=self.clock)
        self.nodes, self.tokens = Memory(), Memory()
        self.log = AuditLog("spire_integration", self.clock)
        self.rules = Rules(TD, TTL, GRACE, **rules)
        self.replicas = [self.replica() for _ in range(replicas)]

    def replica(self, authority: Any = None) -> Joining:
        streams = (self.nodes, self.tokens)
        found = authority or self.authority
        return Joining(self.rules, ROOT, found, streams, self.log.record, self.clock, lambda: "https://here:8443")

    @property
    def one(self) -> Joining:
        return self.replicas[0]

    async def token(self, node: str = "edge-1", ttl_seconds: int = 600) -> Token:
        answer = await self.one.token(TokenAsk(node=node, ttl_seconds=ttl_seconds, by="ann"))
        assert answer.verdict == "ok", answer
        return parse(answer.token)

    async def revoke(self, node: str = "edge-1", at: int = 1) -> None:
        address = NODES.at(node=node)
        value = self.nodes.held[address]
        known = msgspec.json.decode(value.data, type=NodeIdentity)
        await self.nodes.put(
            address, msgspec.json.encode(msgspec.structs.replace(known, revoked_at=at, reason="stolen")), value.seq
        )

    def audited(self) -> list[tuple[str, str, str]]:
        return [(r.what, r.outcome, r.reason.partition(":")[0]) for r in self.log.waiting(100)]


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path)


def names(cloud: Cloud, joined: Joined) -> str:
    """Whom the chain names, by the bundle that came with it."""
    bundle = Bundle(joined.trust_domain, tuple(root.encode() for root in joined.roots))
    return str(verify_chain(joined.chain.encode(), bundle, cloud.clock.now_ms() / 1000))


async def refused(work: Any) -> str:
    with pytest.raises(Refused) as e:
        await work
    return e.value.error


async def test_a_machine_joins_by_a_token_and_renews_by_its_key(cloud: Cloud) -> None:
    token, machine = await cloud.token(), Machine()
    assert (token.node, token.root, token.url) == ("edge-1", ROOT.fingerprint, "https://here:8443")
    joined = await cloud.one.join(machine.ask(token), "10.0.0.7")
    assert names(cloud, joined) == f"spiffe://{TD}/node/edge-1"
    assert joined.not_after == cloud.clock.now_ms() + TTL * 1000
    await cloud.clock.advance(TTL + GRACE)  # the certificate is long over
    renewed = await cloud.one.renew(machine.renewal(cloud.one.nonce().nonce), "10.0.0.8")
    assert names(cloud, renewed) == names(cloud, renewed) and renewed.not_after > cloud.clock.now_ms()
    stored = msgspec.json.decode(cloud.nodes.held[NODES.at(node="edge-1")].data, type=NodeIdentity)
    assert (stored.by, stored.not_after, bool(stored.serial)) == (f"token {token.id}", renewed.not_after, True)
    assert cloud.audited() == [("token", "ok", ""), ("join", "ok", f"token {token.id}"), ("renewal", "ok", "")]
    assert token.secret.encode() not in b"".join(v.data for v in cloud.tokens.held.values())


async def test_a_token_used_twice_for_another_node_or_late_is_refused_and_audited(cloud: Cloud) -> None:
    token, machine = await cloud.token(), Machine()
    other = Machine("edge-2")
    assert await refused(cloud.one.join(other.ask(token), "10.0.0.7")) == "other-node"
    await cloud.one.join(machine.ask(token), "10.0.0.7")
    assert await refused(cloud.one.join(Machine().ask(token), "10.0.0.7")) == "used"
    await cloud.one.join(machine.ask(token), "10.0.0.9")  # the answer was lost: it asks again with the same key
    late = await cloud.token("edge-3", ttl_seconds=10)
    await cloud.clock.advance(10)
    assert await refused(cloud.one.join(Machine("edge-3").ask(late), "10.0.0.7")) == "late"
    assert await refused(cloud.one.join(machine.ask(Token("edge-1", "a.>", "b", "")), "x")) == "unknown"
    assert set(cloud.nodes.held) == {NODES.at(node="edge-1")}
    whys = [why for what, outcome, why in cloud.audited() if outcome == "refused"]
    assert whys == ["other-node", "used", "late", "unknown"]


async def test_of_many_that_use_a_token_at_once_at_two_replicas_one_wins(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, replicas=2)
    token = await cloud.token()
    asks = [cloud.replicas[i % 2].join(Machine().ask(token), f"10.0.0.{i}") for i in range(8)]
    ended = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(isinstance(one, Joined) for one in ended) == 1
    assert {one.error for one in ended if isinstance(one, Refused)} == {"used"}


@pytest.mark.parametrize("what", ["signature", "key", "csr", "names", "name", "huge"])
async def test_an_ask_that_is_not_what_it_says_burns_no_token(cloud: Cloud, what: str) -> None:
    token, machine = await cloud.token(), Machine()
    ask = {
        "signature": lambda: machine.ask(token, signature="AAAA"),
        "key": lambda: machine.ask(token, public_key=Machine().ask().public_key),
        "csr": lambda: machine.ask(token, csr=machine.csr("edge-2")),
        "names": lambda: machine.ask(token, csr=machine.csr(dns=("hub",))),
        "name": lambda: machine.ask(token, node="Edge/../1"),
        "huge": lambda: machine.ask(token, csr="A" * 20_000),
    }[what]()
    assert await refused(cloud.one.join(ask, "10.0.0.7")) in ("signature", "csr")
    assert await cloud.one.join(machine.ask(token), "10.0.0.7")


async def test_a_renewal_is_refused_beyond_grace_when_revoked_with_another_key_or_nonce(cloud: Cloud) -> None:
    machine = Machine()
    await cloud.one.join(machine.ask(await cloud.token()), "x")
    nonce = cloud.one.nonce().nonce
    assert await refused(cloud.one.renew(Machine().renewal(nonce), "x")) == "unknown"
    assert await refused(cloud.one.renew(Machine("edge-2").renewal(nonce), "x")) == "unknown"
    assert await refused(cloud.one.renew(machine.renewal(nonce, csr=machine.csr("edge-2")), "x")) == "csr"
    await cloud.one.renew(machine.renewal(nonce), "x")
    assert await refused(cloud.one.renew(machine.renewal(nonce), "x")) == "nonce"
    assert await refused(cloud.one.renew(machine.renewal("made up"), "x")) == "nonce"
    await cloud.revoke()
    assert await refused(cloud.one.renew(machine.renewal(cloud.one.nonce().nonce), "x")) == "revoked"
    answer = await cloud.one.token(TokenAsk(node="edge-1"))
    assert (answer.verdict, "stolen" in answer.reason) == ("invalid", True)
    await cloud.revoke(at=0)  # restored
    await cloud.clock.advance(TTL + GRACE + 1)
    assert await refused(cloud.one.renew(machine.renewal(cloud.one.nonce().nonce), "x")) == "late"


def made_by(maker: manufacturing.Maker, serial: str) -> tuple[str, bytes]:
    """A machine's certificate (PEM chain) and its key."""
    key = new_key()
    leaf = maker.signed(manufacturing.serial(serial), keys.load(key).public_key())
    return manufacturing.pem(leaf).decode(), key


def by_maker(machine: Machine, nonce: str, chain: str, key: bytes) -> JoinAsk:
    csr, public = machine.csr(), public_key(machine.key).decode()
    words = join_bytes(machine.node, nonce, csr, public)
    signature, maker = to_text(sign(machine.key, words)), to_text(sign(key, words))
    more = {"nonce": nonce, "certificate": chain, "certificate_signature": maker}
    return JoinAsk(node=machine.node, csr=csr, public_key=public, signature=signature, **more)


async def test_a_machine_joins_by_its_makers_certificate_as_the_node_that_it_names_and_no_other(tmp_path: Path) -> None:
    acme = manufacturing.Maker()
    makers = manufacturing.pem(acme.certificate())
    cloud = Cloud(tmp_path, makers_pem=makers, maker_names="edge-{serial}")
    chain, key = made_by(acme, "7")
    machine, nonce = Machine("edge-7"), cloud.one.nonce().nonce
    other, _ = made_by(manufacturing.Maker(), "7")
    for ask, error in (
        (by_maker(machine, nonce, other, key), "maker"),
        (by_maker(machine, nonce, chain, new_key()), "maker"),
        (by_maker(Machine("edge-8"), nonce, chain, key), "name"),
        (by_maker(machine, "none", chain, key), "nonce"),
        (by_maker(machine, nonce, "", key), "nothing"),
    ):
        assert await refused(cloud.one.join(ask, "x")) == error
    joined = await cloud.one.join(by_maker(machine, nonce, chain, key), "x")
    assert names(cloud, joined) == f"spiffe://{TD}/node/edge-7"
    assert await refused(cloud.one.join(by_maker(machine, nonce, chain, key), "x")) == "nonce"
    assert await cloud.one.renew(machine.renewal(cloud.one.nonce().nonce), "x")
    again = by_maker(Machine("edge-7"), cloud.one.nonce().nonce, chain, key)  # its disk was replaced
    assert await cloud.one.join(again, "x")
    await cloud.one.join(Machine("edge-7").ask(await cloud.token("edge-7")), "x")  # an operator's word is above it
    taken = by_maker(Machine("edge-7"), cloud.one.nonce().nonce, chain, key)
    assert await refused(cloud.one.join(taken, "x")) == "taken"
    closed = Cloud(tmp_path / "closed")
    assert await refused(closed.one.join(by_maker(machine, closed.one.nonce().nonce, chain, key), "x")) == "maker"


class Slow(Builtin):
    """An authority during whose minting something happens."""

    meanwhile: Any = None

    async def mint(self, *args: Any, **named: Any) -> Any:
        minted = await super().mint(*args, **named)
        if self.meanwhile:
            await self.meanwhile()
        return minted


async def test_a_node_that_is_revoked_while_it_renews_gets_nothing(cloud: Cloud, tmp_path: Path) -> None:
    authority, machine = Slow(tmp_path / "authority", TD, clock=cloud.clock), Machine()
    replica = cloud.replica(authority)
    await replica.join(machine.ask(await cloud.token()), "x")
    authority.meanwhile = cloud.revoke
    assert await refused(replica.renew(machine.renewal(replica.nonce().nonce), "x")) == "revoked"


class Away(Builtin):
    """An authority that is away at times."""

    away = True

    async def mint(self, *args: Any, **named: Any) -> Any:
        if self.away:
            raise AuthorityAway("no answer")
        return await super().mint(*args, **named)

    async def bundle(self) -> Any:
        if self.away:
            raise AuthorityAway("no answer")
        return await super().bundle()


async def test_while_the_authority_is_away_no_token_is_used_up_and_the_last_bundle_is_told(
    cloud: Cloud, tmp_path: Path
) -> None:
    authority, machine = Away(tmp_path / "authority", TD, clock=cloud.clock), Machine()
    replica, token = cloud.replica(authority), await cloud.token()
    with pytest.raises(AuthorityAway):
        await replica.join(machine.ask(token), "x")
    with pytest.raises(AuthorityAway):
        await replica.bundle()
    authority.away = False
    told = await replica.bundle()
    await replica.join(machine.ask(token), "x")
    authority.away = True
    await cloud.clock.advance(60)
    assert await replica.bundle() == told


@pytest.mark.parametrize(("node", "ttl", "word"), [("Edge_1", 600, "Kubernetes name"), ("edge-1", 1, "10 s")])
async def test_a_token_for_nothing_sensible_is_not_made(cloud: Cloud, node: str, ttl: int, word: str) -> None:
    answer = await cloud.one.token(TokenAsk(node=node, ttl_seconds=ttl))
    assert answer.verdict == "invalid" and word in answer.reason and not cloud.tokens.held


async def test_strangers_cannot_fill_the_audit(cloud: Cloud) -> None:
    for i in range(200):
        await refused(cloud.one.join(Machine(f"edge-{i}").ask(Token(f"edge-{i}", "a", "b", "")), f"10.0.0.{i}"))
    assert len(cloud.audited()) == module.REFUSALS_BURST


TEXTS = st.one_of(
    st.text(max_size=60), st.just("edge-1"), st.just(Machine().csr()), st.just("-----BEGIN CERTIFICATE-----")
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(TEXTS, min_size=9, max_size=9))
def test_whatever_is_asked_nobody_is_let_in(tmp_path_factory: Any, words: list[str]) -> None:
    cloud = Cloud(tmp_path_factory.mktemp("fuzz"), makers_pem=ROOT.certificate_pem)
    fields = ("node", "csr", "public_key", "signature", "token_id", "secret", "nonce", "certificate")
    ask = JoinAsk(**dict(zip(fields, words, strict=False)), certificate_signature=words[8])
    renewal = RenewAsk(**dict(zip(("node", "csr", "nonce", "signature"), words, strict=False)))

    async def asked() -> None:
        await refused(cloud.one.join(ask, "x"))
        await refused(cloud.one.renew(renewal, "x"))

    asyncio.run(asked())
    assert not cloud.nodes.held


@settings(max_examples=150)
@given(at=st.integers(0, 2000), byte=st.integers(0, 255), more=st.binary(max_size=8))
def test_a_csr_that_was_tampered_with_is_refused_or_means_the_same(at: int, byte: int, more: bytes) -> None:
    pem = Machine().csr()
    lines = pem.splitlines()
    der = bytearray(base64.b64decode("".join(lines[1:-1])))
    der[at % len(der)] = byte
    tampered = base64.encodebytes(bytes(der) + more).decode()
    try:
        found = read_csr(f"{lines[0]}\n{tampered}{lines[-1]}\n".encode())
    except BadCsr:
        return
    assert isinstance(found, Csr) and found.id == ids.node(TD, "edge-1") and found.dns == ()
