"""Sets and their hashes: the sum mod 2^64 of the entries' hashes, so that it is kept as entries come and go.

The hash of an entry is blake2b of 8 bytes over its JSON array; on the wire a set's hash is 16 hexadecimal digits.
"""

import bisect
import hashlib
from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

import msgspec

MODULUS = 2**64


class Keyed(Protocol):
    """An entry: a msgspec array with a key that sorts it."""

    @property
    def key(self) -> tuple[str, ...]: ...


E = TypeVar("E", bound=Keyed)


def digest(content: bytes) -> str:
    """What stands for `content` in an entry: 16 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def entry_hash(entry: Keyed) -> int:
    """The hash of one entry, below 2^64."""
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(entry), digest_size=8).digest(), "big")


def hexed(value: int) -> str:
    """A set's hash as it travels."""
    return f"{value % MODULUS:016x}"


class HashedSet(Generic[E]):
    """Entries by key, in order, with the hash of all. Changed in place; every step costs what it touches."""

    def __init__(self, entries: Iterable[E] = ()) -> None:
        self._entries = {e.key: e for e in entries}
        self._keys = sorted(self._entries)
        self._hash = sum(entry_hash(e) for e in self._entries.values()) % MODULUS

    @property
    def hash(self) -> str:
        return hexed(self._hash)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[E]:
        return (self._entries[k] for k in self._keys)

    def get(self, key: tuple[str, ...]) -> E | None:
        return self._entries.get(key)

    def put(self, entry: E) -> None:
        old = self._entries.get(entry.key)
        if old is None:
            bisect.insort(self._keys, entry.key)
        self._hash = (self._hash - (entry_hash(old) if old else 0) + entry_hash(entry)) % MODULUS
        self._entries[entry.key] = entry

    def drop(self, key: tuple[str, ...]) -> None:
        old = self._entries.pop(key, None)
        if old is not None:
            del self._keys[bisect.bisect_left(self._keys, key)]
            self._hash = (self._hash - entry_hash(old)) % MODULUS

    def span(
        self, start: tuple[str, ...] | None, end: tuple[str, ...] | None = None, most: int | None = None
    ) -> tuple[list[E], tuple[str, ...] | None]:
        """At most `most` entries of [start, end), and the key where the next ones begin (`end` if all are there)."""
        first = 0 if start is None else bisect.bisect_left(self._keys, start)
        last = len(self._keys) if end is None else bisect.bisect_left(self._keys, end)
        cut = last if most is None else min(last, first + most)
        return [self._entries[k] for k in self._keys[first:cut]], (self._keys[cut] if cut < last else end)

    def hash_with(self, puts: Iterable[E], deletes: Iterable[tuple[str, ...]]) -> str:
        """The hash that the set would have after these changes (deletes first); nothing is changed."""
        value, gone, new = self._hash, set(deletes), {e.key: e for e in puts}
        for key in gone | new.keys():
            if (old := self._entries.get(key)) is not None:
                value -= entry_hash(old)
        return hexed(value + sum(entry_hash(e) for e in new.values()))
