"""The cache in this process's memory: for a one-command start and for tests. Made by `cache.open_cache`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from canopy.store.errors import CacheUnavailable, TooManyKeys

SWEEP_EVERY_WRITES = 1_024


@dataclass(slots=True)
class _Entry:
    value: bytes | dict[str, bytes]
    ends: float | None  # monotonic seconds


class MemoryCache:
    """`canopy.store.cache.Cache` over a dict. What has ended is dropped when touched, and all of it now and then."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._entries: dict[str, _Entry] = {}
        self._writes = 0
        self._closed = False

    async def hset(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        found = self._hash(key)
        ends = self._ends(ttl_seconds) if ttl_seconds is not None else self._ends_of(key)
        merged = {**found, **fields}
        if merged:
            self._put(key, merged, ends)

    async def hget(self, key: str, field: str) -> bytes | None:
        return self._hash(key).get(field)

    async def hgetall(self, key: str) -> dict[str, bytes]:
        return dict(self._hash(key))

    async def hdel(self, key: str, fields: Iterable[str]) -> None:
        found = self._hash(key)
        for field in fields:
            found.pop(field, None)
        if not found:
            self._entries.pop(key, None)

    async def replace_hash(self, key: str, fields: Mapping[str, bytes], ttl_seconds: float | None = None) -> None:
        self._open()
        self._entries.pop(key, None)
        if fields:
            self._put(key, dict(fields), self._ends(ttl_seconds))

    async def set(self, key: str, value: bytes, ttl_seconds: float | None = None) -> None:
        self._open()
        self._put(key, value, self._ends(ttl_seconds))

    async def get(self, key: str) -> bytes | None:
        entry = self._live(key)
        if entry is None:
            return None
        if not isinstance(entry.value, bytes):
            raise CacheUnavailable(f"{key!r} is a hash, not a plain value")
        return entry.value

    async def delete(self, *keys: str) -> None:
        self._open()
        for key in keys:
            self._entries.pop(key, None)

    async def keys(self, prefix: str, most: int = 1_000_000) -> list[str]:
        self._open()
        self._sweep()
        found = sorted(key for key in self._entries if key.startswith(prefix))
        if len(found) > most:
            raise TooManyKeys(f"more than {most} keys begin with {prefix!r}")
        return found

    async def ping(self) -> None:
        self._open()

    async def close(self) -> None:
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise CacheUnavailable("the cache is closed")

    def _live(self, key: str) -> _Entry | None:
        self._open()
        entry = self._entries.get(key)
        if entry is not None and self._over(entry):
            del self._entries[key]
            return None
        return entry

    def _hash(self, key: str) -> dict[str, bytes]:
        entry = self._live(key)
        if entry is None:
            return {}
        if not isinstance(entry.value, dict):
            raise CacheUnavailable(f"{key!r} is a plain value, not a hash")
        return entry.value

    def _put(self, key: str, value: bytes | dict[str, bytes], ends: float | None) -> None:
        self._entries[key] = _Entry(value, ends)
        self._writes += 1
        if self._writes % SWEEP_EVERY_WRITES == 0:
            self._sweep()

    def _sweep(self) -> None:
        for key in [key for key, entry in self._entries.items() if self._over(entry)]:
            del self._entries[key]

    def _over(self, entry: _Entry) -> bool:
        return entry.ends is not None and entry.ends <= self._monotonic()

    def _ends(self, ttl_seconds: float | None) -> float | None:
        if ttl_seconds is None:
            return None
        if ttl_seconds <= 0:
            raise CacheUnavailable(f"ttl_seconds must be above 0, not {ttl_seconds}")
        return self._monotonic() + ttl_seconds

    def _ends_of(self, key: str) -> float | None:
        entry = self._entries.get(key)
        return entry.ends if entry else None
