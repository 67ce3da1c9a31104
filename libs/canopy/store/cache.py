"""The cloud's cache: what may be lost and built anew (presence, live twins). CloudHub calls it.

`open_cache` gives one of two that pass the same contract suite: in memory, or Redis.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol
from urllib.parse import urlsplit

from canopy.store.errors import CacheUnavailable, StoreError, TooManyKeys

__all__ = ["MOST_KEYS", "Cache", "CacheUnavailable", "TooManyKeys", "open_cache"]

MOST_KEYS = 1_000_000


class Cache(Protocol):
    """Keys are text, values bytes, `ttl_seconds` is of the whole key. All that a call may raise is CacheUnavailable.

    A hash without fields does not exist. To treat a plain value as a hash, or the other way, is CacheUnavailable too.
    """

    async def hset(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        """Set these fields, keep the others. Without a ttl the key's own stays as it is."""

    async def hget(self, key: str, field: str) -> bytes | None: ...

    async def hgetall(self, key: str) -> dict[str, bytes]:
        """All fields; empty when there is no such key."""

    async def hdel(self, key: str, fields: Iterable[str]) -> None: ...

    async def replace_hash(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        """Exactly these fields from now on; nobody sees anything between. Without a ttl it stays for ever."""

    async def set(self, key: str, value: bytes, ttl_seconds: float | None = None) -> None:
        """Take the place of whatever the key was. Without a ttl it stays for ever."""

    async def get(self, key: str) -> bytes | None: ...

    async def delete(self, *keys: str) -> None: ...

    async def keys(self, prefix: str, most: int = MOST_KEYS) -> list[str]:
        """Sorted keys that begin so; more than `most` is TooManyKeys, never a part."""

    async def ping(self) -> None:
        """Return if it answers."""

    async def close(self) -> None: ...


def open_cache(url: str, monotonic: Callable[[], float] = time.monotonic) -> Cache:
    """`memory://` (this process only) or `redis://[user:password@]host:port/database` (also `rediss://`, TLS).

    Does not connect yet: the first call does. `monotonic` is the in-memory one's clock in seconds.
    """
    scheme = urlsplit(url).scheme
    if scheme == "memory":
        from canopy.store.memory import MemoryCache

        return MemoryCache(monotonic)
    if scheme in ("redis", "rediss"):
        from canopy.store.redis import RedisCache  # here, because only the cloud's images hold redis

        return RedisCache.at(url)
    raise StoreError(f"cache address with scheme {scheme!r}: use memory:// or redis://host:6379/0")
