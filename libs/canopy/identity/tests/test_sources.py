import asyncio
import contextlib
import logging

import pytest

from canopy.identity import ids
from canopy.identity.authority import AuthorityAway
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, NoIdentity, read_identity, write_identity
from canopy.identity.sources import AuthoritySource, FileSource
from canopy.identity.svid import Bundle, Svid, make_csr, new_key
from canopy.testing.clock import FrozenClock

TD = "canopy.test"
NODE = ids.node(TD, "edge-1")
START = 1.7e9


@pytest.fixture
def clock():
    return FrozenClock()


@pytest.fixture
def authority(tmp_path, clock):
    return Builtin(tmp_path / "authority", TD, ca_ttl_seconds=100_000, clock=clock)


async def identity(authority, ttl_seconds=600.0) -> Identity:
    key = new_key()
    minted = await authority.mint(make_csr(key, NODE), NODE, ttl_seconds=ttl_seconds)
    return Identity(Svid.of(minted.chain_pem, key), await authority.bundle())


class Followed:
    """What a source's changes gave."""

    def __init__(self, source):
        self.seen = []
        self._task = asyncio.ensure_future(self._follow(source))

    async def _follow(self, source):
        self.seen.append(await source.first())
        async for one in source.changes():
            self.seen.append(one)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


async def test_files_read_as_they_were_written_and_are_private(authority, tmp_path):
    one = await identity(authority)
    write_identity(tmp_path / "me", one)
    assert read_identity(tmp_path / "me") == one
    assert sorted((p.name, p.stat().st_mode & 0o777) for p in (tmp_path / "me").iterdir()) == [
        ("bundle.pem", 0o600),
        ("svid.pem", 0o600),
    ]
    assert one.left_seconds(START + 60) == 540


async def test_a_missing_file_is_waited_for_and_said_once_a_minute(authority, tmp_path, clock, caplog):
    async with Followed(FileSource(tmp_path / "me", clock=clock)) as followed:
        await clock.advance(59)
        assert followed.seen == [] and len(caplog.records) == 1
        assert "svid.pem" in caplog.text and "edgeidentity writes it" in caplog.text
        await clock.advance(2)
        assert len(caplog.records) == 2
        one = await identity(authority)
        write_identity(tmp_path / "me", one)
        await clock.advance(1)
        assert followed.seen == [one]


async def test_a_file_is_followed_and_a_broken_one_leaves_the_old(authority, tmp_path, clock, caplog):
    first, second = await identity(authority), await identity(authority)
    write_identity(tmp_path, first)
    async with Followed(FileSource(tmp_path, clock=clock)) as followed:
        await clock.advance(10)
        assert followed.seen == [first]
        (tmp_path / "svid.pem").write_bytes(b"junk")
        await clock.advance(2)
        assert followed.seen == [first] and "no private key" in caplog.text
        write_identity(tmp_path, second)
        await clock.advance(2)
        assert followed.seen == [first, second]


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(NoIdentity, match=r"svid\.pem: No such file"):
        read_identity(tmp_path)


async def test_an_svid_is_renewed_at_half_of_its_life(authority, clock):
    async with Followed(AuthoritySource(authority, NODE, ttl_seconds=600, clock=clock)) as followed:
        await clock.advance(260)
        assert len(followed.seen) == 1
        await clock.advance(80)
        assert len(followed.seen) == 2
        assert followed.seen[0].svid.key_pem != followed.seen[1].svid.key_pem
        for _ in range(2):
            await clock.advance(600)
            assert followed.seen[-1].left_seconds(clock.now_ms() / 1000) > 250
        assert len(followed.seen) > 4


class Away:
    """An authority that may not answer."""

    def __init__(self, inner):
        self.inner, self.away, self.says = inner, True, "an authority"

    async def mint(self, *args, **more):
        self._look()
        return await self.inner.mint(*args, **more)

    async def bundle(self):
        self._look()
        return await self.inner.bundle()

    def _look(self):
        if self.away:
            raise AuthorityAway("nobody listens; start it")


async def test_an_authority_that_is_away_is_waited_for_and_the_old_one_stays(authority, clock, caplog):
    caplog.set_level(logging.WARNING)
    away = Away(authority)
    async with Followed(AuthoritySource(away, NODE, ttl_seconds=600, clock=clock)) as followed:
        await clock.advance(30)
        assert followed.seen == [] and caplog.text.count("nobody listens") == 1
        away.away = False
        await clock.advance(3)
        assert len(followed.seen) == 1
        away.away = True
        await clock.advance(500)
        assert len(followed.seen) == 1
        away.away = False
        await clock.advance(3)
        assert len(followed.seen) == 2


async def test_a_new_root_is_known_within_seconds(authority, clock):
    async with Followed(AuthoritySource(authority, NODE, ttl_seconds=90_000, clock=clock)) as followed:
        await clock.advance(1)
        before = followed.seen[0]
        clock.step(51_000)  # past half of the root's life
        await clock.advance(6)
        assert followed.seen[1].svid == before.svid
        assert len(followed.seen[1].bundle.roots_pem) == 2


async def test_a_root_that_is_gone_ends_the_svid_at_once(tmp_path, clock):
    away = Away(Builtin(tmp_path / "a", TD, clock=clock))
    away.away = False
    async with Followed(AuthoritySource(away, NODE, ttl_seconds=600, clock=clock)) as followed:
        await clock.advance(1)
        away.inner = Builtin(tmp_path / "b", TD, clock=clock)
        await clock.advance(6)
        assert len(followed.seen) == 2
        assert followed.seen[1].bundle == await away.inner.bundle()
        assert followed.seen[1].svid.serial != followed.seen[0].svid.serial


def test_a_bundle_file_names_its_domain(tmp_path):
    bundle = asyncio.run(Builtin(tmp_path, TD).bundle())
    assert Bundle.read(bundle.pem).trust_domain == TD
    assert Bundle.read(b"".join(bundle.roots_pem)).trust_domain == TD, "by the root's own name"
