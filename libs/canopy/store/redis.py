"""The door to Redis. Made by `cache.open_cache`; cloud images only."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from canopy.store.errors import CacheUnavailable, TooManyKeys

CONNECT_TIMEOUT_SECONDS = 2.0
ANSWER_TIMEOUT_SECONDS = 2.0
CALL_TIMEOUT_SECONDS = 5.0  # of a whole call: waiting for a connection, connecting, one repeat
SCAN_TIMEOUT_SECONDS = 30.0
MOST_CONNECTIONS = 16
SCAN_COUNT = 1_000
DELETE_KEYS = 1_000


class RedisCache:
    """`canopy.store.cache.Cache` over one Redis database, through a bounded pool of connections."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._closed = False

    @classmethod
    def at(cls, url: str) -> "RedisCache":
        pool = redis.BlockingConnectionPool.from_url(
            url,
            max_connections=MOST_CONNECTIONS,
            timeout=CALL_TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            socket_timeout=ANSWER_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),  # a pooled one may have died
        )
        return cls(redis.Redis(connection_pool=pool))

    async def hset(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        if not fields and ttl_seconds is None:
            return
        async with self._called(), self._client.pipeline(transaction=ttl_seconds is not None) as pipe:
            if fields:
                pipe.hset(key, mapping=dict(fields))
            if ttl_seconds is not None:
                pipe.pexpire(key, _milliseconds(ttl_seconds))
            await pipe.execute()

    async def hget(self, key: str, field: str) -> bytes | None:
        async with self._called():
            value: bytes | None = await self._client.hget(key, field)
        return value

    async def hgetall(self, key: str) -> dict[str, bytes]:
        async with self._called():
            found: dict[bytes, bytes] = await self._client.hgetall(key)
        return {field.decode(): value for field, value in found.items()}

    async def hdel(self, key: str, fields: Iterable[str]) -> None:
        names = list(fields)
        if names:
            async with self._called():
                await self._client.hdel(key, *names)

    async def replace_hash(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        async with self._called(), self._client.pipeline(transaction=True) as pipe:
            pipe.delete(key)
            if fields:
                pipe.hset(key, mapping=dict(fields))
            if ttl_seconds is not None:
                pipe.pexpire(key, _milliseconds(ttl_seconds))
            await pipe.execute()

    async def set(self, key: str, value: bytes, ttl_seconds: float | None = None) -> None:
        async with self._called():
            await self._client.set(key, value, px=None if ttl_seconds is None else _milliseconds(ttl_seconds))

    async def get(self, key: str) -> bytes | None:
        async with self._called():
            value: bytes | None = await self._client.get(key)
        return value

    async def delete(self, *keys: str) -> None:
        for start in range(0, len(keys), DELETE_KEYS):
            async with self._called():
                await self._client.unlink(*keys[start : start + DELETE_KEYS])

    async def keys(self, prefix: str, most: int = 1_000_000) -> list[str]:
        found: set[str] = set()  # SCAN may say a key twice
        async with self._called(SCAN_TIMEOUT_SECONDS):
            async for key in self._client.scan_iter(match=_literal(prefix) + "*", count=SCAN_COUNT):
                found.add(key.decode())
                if len(found) > most:
                    raise TooManyKeys(f"more than {most} keys begin with {prefix!r}")
        return sorted(found)

    async def ping(self) -> None:
        async with self._called():
            await self._client.ping()

    async def close(self) -> None:
        self._closed = True
        async with self._called(closing=True):
            await self._client.aclose(close_connection_pool=True)

    @asynccontextmanager
    async def _called(self, seconds: float = CALL_TIMEOUT_SECONDS, closing: bool = False) -> AsyncIterator[None]:
        if self._closed and not closing:  # the client would silently open anew
            raise CacheUnavailable("the cache is closed")
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            raise CacheUnavailable(f"redis did not answer within {seconds:g} s") from error
        except (RedisError, OSError) as error:
            raise CacheUnavailable(f"redis: {error}") from error


def _literal(prefix: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", prefix)


def _milliseconds(ttl_seconds: float) -> int:
    if ttl_seconds <= 0:
        raise CacheUnavailable(f"ttl_seconds must be above 0, not {ttl_seconds}")
    return max(1, round(ttl_seconds * 1000))
