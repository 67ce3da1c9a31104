"""One contract, two caches: in memory with a frozen clock, and a real Redis."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from urllib.parse import urlsplit

import pytest

from canopy.store.cache import Cache, CacheUnavailable, TooManyKeys, open_cache
from canopy.store.errors import StoreError
from canopy.testing import redis_server
from canopy.testing.clock import FrozenClock
from canopy.testing.wait import until

DEADLINE_SECONDS = 10.0
LONG = 3600.0

Gone = Callable[[str, float], Awaitable[bool]]


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    if redis_server.found() is None:
        pytest.skip(redis_server.MISSING)
    with redis_server.redis_server() as url:
        yield url


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(params=["memory", pytest.param("redis", marks=[pytest.mark.server, pytest.mark.xdist_group("redis")])])
async def cache(request: pytest.FixtureRequest, clock: FrozenClock) -> AsyncIterator[Cache]:
    url = "memory://" if request.param == "memory" else request.getfixturevalue("redis_url")
    opened = open_cache(url, clock.monotonic)
    await opened.delete(*await opened.keys(""))
    yield opened
    await opened.close()


@pytest.fixture
def gone(cache: Cache, clock: FrozenClock) -> Gone:
    """Whether a key has ended once its time has passed: the frozen clock's at once, Redis's own within a deadline."""

    async def ended(key: str, ttl_seconds: float) -> bool:
        async def absent() -> bool:
            return key not in await cache.keys(key)

        await clock.advance(ttl_seconds)
        return bool(await until(absent, DEADLINE_SECONDS))

    return ended


async def test_what_is_not_there_is_empty(cache: Cache) -> None:
    assert await cache.get("a") is None
    assert await cache.hget("a", "x") is None
    assert await cache.hgetall("a") == {}
    assert await cache.keys("a") == []
    await cache.delete()
    await cache.delete("a", "b")
    await cache.hdel("a", ["x"])
    await cache.hdel("a", [])


async def test_a_value_is_kept_byte_by_byte(cache: Cache) -> None:
    await cache.set("a", b"\x00\xff\r\n")
    assert await cache.get("a") == b"\x00\xff\r\n"


async def test_hset_keeps_the_other_fields(cache: Cache) -> None:
    await cache.hset("a", {"x": b"1", "y": b"2"})
    await cache.hset("a", {"y": b"3", "zäh": b""})
    assert await cache.hgetall("a") == {"x": b"1", "y": b"3", "zäh": b""}
    assert await cache.hget("a", "y") == b"3"


async def test_hset_of_nothing_makes_nothing(cache: Cache) -> None:
    await cache.hset("a", {})
    await cache.hset("a", {}, ttl_seconds=LONG)
    assert await cache.keys("") == []


async def test_what_hgetall_gave_is_the_caller_s_own(cache: Cache) -> None:
    await cache.hset("a", {"x": b"1"})
    (await cache.hgetall("a")).clear()
    assert await cache.hgetall("a") == {"x": b"1"}


async def test_a_hash_without_fields_does_not_exist(cache: Cache) -> None:
    await cache.hset("a", {"x": b"1", "y": b"2"})
    await cache.hdel("a", ["x", "nothing"])
    assert await cache.keys("a") == ["a"]
    await cache.hdel("a", iter(["y"]))
    assert await cache.keys("a") == []


async def test_replace_hash_leaves_exactly_those_fields(cache: Cache) -> None:
    await cache.hset("a", {"x": b"1", "y": b"2"})
    await cache.replace_hash("a", {"z": b"3"})
    assert await cache.hgetall("a") == {"z": b"3"}
    await cache.replace_hash("a", {})
    assert await cache.keys("a") == []


async def test_replace_hash_takes_the_place_of_a_plain_value(cache: Cache) -> None:
    await cache.set("a", b"1")
    await cache.replace_hash("a", {"x": b"1"})
    assert await cache.hgetall("a") == {"x": b"1"}


async def test_a_reader_never_sees_a_half_replaced_hash(cache: Cache) -> None:
    big = 20_000  # so big that one write does not reach the server in one read
    whole = [{f"f{n}": value * big for n in range(20)} for value in (b"old", b"new")]
    await cache.replace_hash("a", whole[0])
    replaced = asyncio.gather(*(cache.replace_hash("a", whole[n % 2]) for n in range(20)))
    seen = [await cache.hgetall("a") for _ in range(20)]
    await replaced
    assert all(found in whole for found in seen)


async def test_set_takes_the_place_of_a_hash(cache: Cache) -> None:
    await cache.hset("a", {"x": b"1"})
    await cache.set("a", b"1")
    assert await cache.get("a") == b"1"


async def test_delete_takes_values_and_hashes(cache: Cache) -> None:
    await cache.set("a", b"1")
    await cache.hset("b", {"x": b"1"})
    await cache.set("c", b"1")
    await cache.delete("a", "b")
    assert await cache.keys("") == ["c"]


async def test_keys_are_sorted_and_the_prefix_is_literal(cache: Cache) -> None:
    for key in ("twin:b", "twin:a", "twin*", "twin[ab]:", "other", "twin\\x", "Twin:a"):
        await cache.set(key, b"1")
    assert await cache.keys("twin:") == ["twin:a", "twin:b"]
    assert await cache.keys("twin*") == ["twin*"]
    assert await cache.keys("twin[ab]") == ["twin[ab]:"]
    assert await cache.keys("twin\\") == ["twin\\x"]
    assert len(await cache.keys("")) == 7


async def test_more_keys_than_asked_for_is_an_error_and_not_a_part(cache: Cache) -> None:
    for number in range(3):
        await cache.set(f"a{number}", b"1")
    assert len(await cache.keys("a", most=3)) == 3
    with pytest.raises(TooManyKeys, match="more than 2 keys begin with 'a'"):
        await cache.keys("a", most=2)


async def test_a_value_ends_after_its_ttl(cache: Cache, gone: Gone) -> None:
    await cache.set("a", b"1", ttl_seconds=0.05)
    assert await gone("a", 0.05)
    assert await cache.get("a") is None


async def test_a_hash_ends_after_its_ttl(cache: Cache, gone: Gone) -> None:
    await cache.hset("a", {"x": b"1"}, ttl_seconds=0.05)
    assert await gone("a", 0.05)
    assert await cache.hgetall("a") == {}


async def test_hset_without_a_ttl_keeps_the_one_there_is(cache: Cache, gone: Gone) -> None:
    await cache.hset("a", {"x": b"1"}, ttl_seconds=1.5)  # it must not be over before the next call
    await cache.hset("a", {"y": b"1"})
    assert await gone("a", 1.5)


async def test_hset_of_nothing_with_a_ttl_renews_it(cache: Cache, gone: Gone) -> None:
    await cache.hset("a", {"x": b"1"}, ttl_seconds=LONG)
    await cache.hset("a", {}, ttl_seconds=0.05)
    assert await gone("a", 0.05)


@pytest.mark.parametrize("write", ["set", "replace_hash", "hset"])
async def test_a_write_after_the_end_begins_without_a_ttl(
    cache: Cache, gone: Gone, clock: FrozenClock, write: str
) -> None:
    await cache.hset("a", {"x": b"1"}, ttl_seconds=0.05)
    await gone("a", 0.05)
    await (cache.set("a", b"2") if write == "set" else getattr(cache, write)("a", {"y": b"2"}))
    await clock.advance(LONG)
    assert await cache.keys("a") == ["a"]


@pytest.mark.parametrize("write", ["set", "replace_hash"])
async def test_a_write_that_replaces_clears_the_ttl(cache: Cache, gone: Gone, write: str) -> None:
    await cache.hset("a", {"x": b"1"}, ttl_seconds=0.1)
    await (cache.set("a", b"2") if write == "set" else cache.replace_hash("a", {"y": b"2"}))
    await cache.set("clock", b"1", ttl_seconds=0.15)  # ends later than "a" would have
    await gone("clock", 0.15)
    assert await cache.keys("") == ["a"]


@pytest.mark.parametrize("ttl_seconds", [0, -1.0])
async def test_a_ttl_that_is_not_above_0_is_refused(cache: Cache, ttl_seconds: float) -> None:
    with pytest.raises(CacheUnavailable, match="above 0"):
        await cache.set("a", b"1", ttl_seconds=ttl_seconds)
    with pytest.raises(CacheUnavailable, match="above 0"):
        await cache.hset("a", {"x": b"1"}, ttl_seconds=ttl_seconds)
    with pytest.raises(CacheUnavailable, match="above 0"):
        await cache.replace_hash("a", {"x": b"1"}, ttl_seconds=ttl_seconds)
    assert await cache.keys("") == []


async def test_a_hash_is_not_a_plain_value_nor_the_other_way(cache: Cache) -> None:
    await cache.set("plain", b"1")
    await cache.hset("hash", {"x": b"1"})
    for call in (cache.get("hash"), cache.hgetall("plain"), cache.hset("plain", {"x": b"1"}), cache.hget("plain", "x")):
        with pytest.raises(CacheUnavailable):
            await call


async def test_it_answers_a_ping(cache: Cache) -> None:
    await cache.ping()


async def test_a_closed_cache_is_unavailable(cache: Cache) -> None:
    await cache.close()
    for call in (cache.ping(), cache.get("a"), cache.hset("a", {"x": b"1"}), cache.keys("")):
        with pytest.raises(CacheUnavailable):
            await call


async def test_many_callers_at_once_are_served(cache: Cache) -> None:
    await asyncio.gather(*(cache.hset(f"k{n % 10}", {f"f{n}": b"1"}) for n in range(300)))
    assert sum([len(await cache.hgetall(key)) for key in await cache.keys("k")]) == 300


async def test_memory_forgets_what_has_ended_without_being_touched(clock: FrozenClock) -> None:
    cache = open_cache("memory://", clock.monotonic)
    await cache.set("old", b"1", ttl_seconds=1)
    await clock.advance(2)
    for number in range(2_000):
        await cache.set("a", b"%d" % number)
    assert "old" not in cache._entries  # type: ignore[attr-defined]


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused
        cache = open_cache(f"redis://127.0.0.1:{taken.getsockname()[1]}/0")
        with pytest.raises(CacheUnavailable, match="redis"):
            await cache.ping()
        await cache.close()


async def test_a_redis_that_does_not_answer_is_unavailable_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("canopy.store.redis.ANSWER_TIMEOUT_SECONDS", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        cache = open_cache(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        async with asyncio.timeout(DEADLINE_SECONDS):
            with pytest.raises(CacheUnavailable):
                await cache.ping()
        await cache.close()


@pytest.mark.server
@pytest.mark.xdist_group("redis")
async def test_after_a_redis_was_restarted_the_next_call_works() -> None:
    if redis_server.found() is None:
        pytest.skip(redis_server.MISSING)
    with redis_server.redis_server() as url:
        cache = open_cache(url)
        await cache.set("a", b"1")
    with redis_server.redis_server(urlsplit(url).port or 0):
        assert await cache.get("a") is None
        await cache.set("a", b"2")
    await cache.close()


def test_an_address_of_another_kind_says_which_there_are() -> None:
    with pytest.raises(StoreError, match="memory:// or redis://"):
        open_cache("http://127.0.0.1")
