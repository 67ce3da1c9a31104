import asyncio
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from canopy.identity import ids, roots
from canopy.identity.authority import AuthorityAway, AuthorityRefused
from canopy.identity.builtin import Builtin
from canopy.identity.svid import Bundle, Svid, Untrusted, make_csr, new_key, verify_chain
from canopy.testing.authorities import CONTRACT
from canopy.testing.clock import FrozenClock

TD = "canopy.test"
ID = ids.node(TD, "edge-1")
KEY = new_key()
CSR = make_csr(KEY, ID)


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda f: f.__name__)
async def test_contract(holds, tmp_path):
    await holds(Builtin(tmp_path / "authority", TD), TD)


async def test_its_keys_are_for_its_owner_only(tmp_path):
    await Builtin(tmp_path / "a", TD).bundle()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert len(modes) == 2 and set(modes.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


async def test_two_processes_share_one_authority(tmp_path):
    first, second = Builtin(tmp_path, TD), Builtin(tmp_path, TD)
    assert await first.bundle() == await second.bundle()
    chain = (await first.mint(CSR, ID, ttl_seconds=60)).chain_pem
    assert Svid.of(chain, KEY).id == ID


async def test_another_authority_of_the_same_name_is_believed_by_nobody(tmp_path):
    mine, theirs = Builtin(tmp_path / "a", TD), Builtin(tmp_path / "b", TD)
    chain = (await theirs.mint(CSR, ID, ttl_seconds=60)).chain_pem
    with pytest.raises(Untrusted, match="signed by none of the 1 roots"):
        verify_chain(chain, await mine.bundle(), time.time())
    foreign = Bundle("other.test", (await theirs.bundle()).roots_pem)
    with pytest.raises(Untrusted, match="foreign"):
        verify_chain(chain, foreign, time.time())


async def test_a_chain_is_believed_in_its_time_only(tmp_path):
    clock = FrozenClock()
    authority = Builtin(tmp_path, TD, ca_ttl_seconds=1000, clock=clock)
    chain, bundle, now = (await authority.mint(CSR, ID, ttl_seconds=60)).chain_pem, await authority.bundle(), 1.7e9
    assert verify_chain(chain, bundle, now) == ID
    with pytest.raises(Untrusted, match="expired at 2023"):
        verify_chain(chain, bundle, now + 61)
    with pytest.raises(Untrusted, match="not yet valid"):
        verify_chain(chain, bundle, now - 11)


async def test_a_root_is_no_svid(tmp_path):
    bundle = await Builtin(tmp_path, TD).bundle()
    with pytest.raises(Untrusted, match="nobody in it"):
        verify_chain(bundle.roots_pem[0], bundle, time.time())


async def test_an_svid_ends_no_later_than_its_root(tmp_path):
    clock = FrozenClock()
    authority = Builtin(tmp_path, TD, ca_ttl_seconds=100, clock=clock)
    minted = await authority.mint(CSR, ID, ttl_seconds=5000)
    assert minted.not_after == 1.7e9 + 100


async def test_addresses_are_the_callers_to_give(tmp_path):
    authority = Builtin(tmp_path, TD)
    minted = await authority.mint(CSR, ID, ttl_seconds=60, ips=("127.0.0.1",))
    assert b"-----BEGIN" in minted.chain_pem
    with pytest.raises(AuthorityRefused, match="above 0"):
        await authority.mint(CSR, ID, ttl_seconds=0)


async def test_a_broken_file_says_which(tmp_path):
    (tmp_path / "root-1.pem").write_bytes(b"junk")
    with pytest.raises(AuthorityAway, match=r"root-1\.pem"):
        await Builtin(tmp_path, TD).bundle()
    (tmp_path / "root-1.pem").unlink()
    (tmp_path / "entries.json").write_bytes(b"junk")
    with pytest.raises(AuthorityAway, match=r"entries\.json"):
        await Builtin(tmp_path, TD).entries()


async def test_a_root_is_in_the_bundle_long_before_it_signs_and_until_its_last_svid_has_ended(tmp_path):
    """Four lives of a root in steps of a 24th: what any holder of the last bundle sees is believed."""
    clock = FrozenClock()
    authority = Builtin(tmp_path, TD, ca_ttl_seconds=2400, clock=clock)
    known, seen = await authority.bundle(), set()
    for _ in range(96):
        now = clock.now_ms() / 1000
        chain = (await authority.mint(CSR, ID, ttl_seconds=200)).chain_pem
        assert verify_chain(chain, known, now) == ID, "by a bundle that is a step old"
        known = await authority.bundle()
        assert 1 <= len(known.roots_pem) <= 2
        seen.update(known.roots_pem)
        clock.step(100)
        assert verify_chain(chain, await authority.bundle(), now + 100) == ID, "an older SVID by the newest bundle"
    assert len(seen) > 6


async def test_away_for_longer_than_its_root_it_begins_anew(tmp_path):
    clock = FrozenClock()
    authority = Builtin(tmp_path, TD, ca_ttl_seconds=1000, clock=clock)
    old = await authority.bundle()
    clock.step(5000)
    chain, new = (await authority.mint(CSR, ID, ttl_seconds=60)).chain_pem, await authority.bundle()
    assert verify_chain(chain, new, clock.now_ms() / 1000) == ID
    assert not set(new.roots_pem) & set(old.roots_pem)


@settings(max_examples=25)
@given(st.lists(st.floats(-3, 3), max_size=12))
def test_whatever_the_clock_does_it_can_sign(lives):
    """Steps of the clock, forwards and back, in lives of a root."""
    now, ttl_seconds, found = 1.7e9, 200_000.0, ()
    for step in (0.0, *lives):
        now += step * ttl_seconds
        found = roots.living(found, now)
        if roots.next_is_due(found, now):
            found = (*found, roots.made(TD, ttl_seconds, now))
        root = roots.signer(found, now)
        assert root.begins <= now < root.ends


def test_two_at_once_make_one_root(tmp_path):
    def bundle(_: int) -> Bundle:
        return asyncio.run(Builtin(tmp_path, TD).bundle())

    with ThreadPoolExecutor(8) as pool:
        assert len({b.roots_pem for b in pool.map(bundle, range(16))}) == 1
