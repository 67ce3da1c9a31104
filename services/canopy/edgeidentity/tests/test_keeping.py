"""The node's identities in their files, by an authority of the node's own: real certificates, a frozen clock."""

import random
import stat
from pathlib import Path

import pytest

from canopy.edgeidentity.keeping import Keeper
from canopy.edgeidentity.slots import slots
from canopy.identity.builtin import Builtin
from canopy.identity.chains import verify_chain
from canopy.identity.svid import Bundle, Svid
from canopy.testing.clock import FrozenClock

TTL, CA_TTL = 3_600, 8 * 3_600
ALL = slots("canopy.test", "edge-1")
TWO = (ALL[0], ALL[1])


class Node:
    """A keeper, its clock and its folder; `again` is the next start of the process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, FrozenClock()
        self.again()

    def again(self) -> None:
        authority = Builtin(self.folder / "authority", "edge-1.canopy.test", ca_ttl_seconds=CA_TTL, clock=self.clock)
        self.keeper = Keeper(self.folder, TWO, authority, TTL, self.clock, random.Random(1))

    @property
    def now(self) -> float:
        return self.clock.now_ms() / 1000

    def svid(self, folder: str) -> Svid:
        return Svid.read((self.folder / folder / "svid.pem").read_bytes())

    def bundle(self, folder: str) -> Bundle:
        return Bundle.read((self.folder / folder / "bundle.pem").read_bytes())


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


async def test_every_identity_stands_in_a_file_of_its_own_for_its_owner_alone(node: Node) -> None:
    await node.keeper.keep()
    for slot in TWO:
        svid = node.svid(slot.folder)
        assert verify_chain(svid.chain_pem, node.bundle(slot.folder), node.now) == slot.id
        assert svid.not_after == pytest.approx(node.now + TTL, abs=1)
        for path in (node.folder / slot.folder).iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {stat.S_IMODE(p.stat().st_mode) for p in (node.folder / "authority").glob("root-*")} == {0o600}


async def test_it_is_renewed_at_half_of_its_life_and_not_before(node: Node) -> None:
    await node.keeper.keep()
    first = node.svid("leaf")
    node.clock.step(0.39 * TTL)
    await node.keeper.keep()
    assert node.svid("leaf").serial == first.serial
    node.clock.step(0.22 * TTL)
    await node.keeper.keep()
    assert node.svid("leaf").serial != first.serial and node.svid("leaf").key_pem != first.key_pem


async def test_a_restart_finds_what_is_still_good(node: Node) -> None:
    await node.keeper.keep()
    first = node.svid("leaf")
    node.again()
    await node.keeper.keep()
    assert node.svid("leaf").serial == first.serial


@pytest.mark.parametrize("damage", ["gone", "torn", "another's", "expired", "of a time to come"])
async def test_what_is_no_good_is_made_anew(node: Node, damage: str) -> None:
    await node.keeper.keep()
    path, first = node.folder / "leaf" / "svid.pem", node.svid("leaf")
    match damage:
        case "gone":
            path.unlink()
        case "torn":
            path.write_bytes(path.read_bytes()[:200])
        case "another's":
            path.write_bytes((node.folder / TWO[1].folder / "svid.pem").read_bytes())
        case "expired":
            node.clock.step(2 * TTL)
        case "of a time to come":
            node.clock.step(-TTL)
    node.again()
    await node.keeper.keep()
    made = node.svid("leaf")
    assert made.id == TWO[0].id and made.serial != first.serial
    assert made.not_before <= node.now < made.not_after


async def test_roots_follow_each_other_and_none_signs_before_everybody_had_time_to_hear_of_it(node: Node) -> None:
    """Two lives of a root, without anything from outside. What was written last is always good, and whoever read
    his roots up to a life of a certificate ago takes it."""
    await node.keeper.keep()
    seen = [node.bundle("leaf")]
    steps_in_a_life = 5
    for _ in range(int(2 * CA_TTL / TTL) * steps_in_a_life):
        node.clock.step(TTL / steps_in_a_life)
        await node.keeper.keep()
        seen.append(node.bundle("leaf"))
        for slot in TWO:
            chain = node.svid(slot.folder).chain_pem
            for known in (seen[-1], seen[-min(len(seen), steps_in_a_life)]):
                assert verify_chain(chain, known, node.now) == slot.id
    assert not set(seen[0].roots_pem) & set(seen[-1].roots_pem)  # each root went, and nobody noticed
    assert {len(bundle.roots_pem) for bundle in seen} <= {1, 2}


async def test_a_node_that_was_off_for_years_begins_with_a_new_root(node: Node) -> None:
    await node.keeper.keep()
    before = node.bundle("leaf")
    node.clock.step(10 * CA_TTL)
    node.again()
    await node.keeper.keep()
    assert not set(before.roots_pem) & set(node.bundle("leaf").roots_pem)
    assert verify_chain(node.svid("leaf").chain_pem, node.bundle("leaf"), node.now) == TWO[0].id
