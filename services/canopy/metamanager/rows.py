"""What MetaManager's SQLite file holds. Synchronous functions for `Database.run` and `Database.read`."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from canopy.contracts.wire import AsOf, Entry, Key, Put, encode
from canopy.sync.down import Change

_DELETE = "DELETE FROM objects WHERE channel = ? AND kind = ? AND namespace = ? AND name = ?"
_ONE = "SELECT uid, digest, body FROM objects WHERE channel = ? AND kind = ? AND namespace = ? AND name = ?"
_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)"
_AS_OF = msgspec.json.Decoder(AsOf)


@dataclass(frozen=True, slots=True)
class Stored:
    """One channel as the file holds it, without bodies."""

    entries: tuple[Entry, ...] = ()
    as_of: AsOf | None = None
    proven: AsOf | None = None
    cluster: str = ""


def load(connection: sqlite3.Connection, channel: str) -> Stored:
    """A channel at start; an empty one if nothing was ever stored."""
    row = connection.execute("SELECT as_of, proven, cluster FROM channels WHERE channel = ?", (channel,)).fetchone()
    if row is None:
        return Stored()
    found = connection.execute(
        "SELECT kind, namespace, name, uid, digest FROM objects WHERE channel = ?", (channel,)
    ).fetchall()
    proven = _AS_OF.decode(row[1]) if row[1] is not None else None
    return Stored(tuple(Entry(*entry) for entry in found), _AS_OF.decode(row[0]), proven, row[2])


def store(connection: sqlite3.Connection, channel: str, change: Change, cluster: str) -> None:
    """Objects and as_of together: the caller's transaction is all or nothing (RULES 3)."""
    connection.executemany(_DELETE, [(channel, *key) for key in change.deletes])
    connection.executemany(_PUT, [_row(channel, put) for put in change.puts])
    _mark(connection, channel, change, cluster)


def store_apart(
    connection: sqlite3.Connection, channel: str, change: Change, cluster: str
) -> list[tuple[Put, Exception]]:
    """As `store`, object by object; one that cannot be stored is stored without its content, and comes back.

    So the set is the cloud's all the same, and the other objects are read.
    """
    connection.executemany(_DELETE, [(channel, *key) for key in change.deletes])
    failed: list[tuple[Put, Exception]] = []
    for put in change.puts:
        try:
            connection.execute(_PUT, _row(channel, put))
        except sqlite3.OperationalError:
            raise
        except Exception as bug:
            failed.append((put, bug))
            connection.execute(_PUT, (channel, *put.entry.key, put.entry.uid, put.entry.digest, b"{}"))
    _mark(connection, channel, change, cluster)
    return failed


def _row(channel: str, put: Put) -> tuple[Any, ...]:
    return (channel, *put.entry.key, put.entry.uid, put.entry.digest, bytes(put.body))


def _mark(connection: sqlite3.Connection, channel: str, change: Change, cluster: str) -> None:
    proven = encode(change.proven) if change.proven is not None else None
    connection.execute(
        "INSERT OR REPLACE INTO channels VALUES (?, ?, ?, ?)", (channel, encode(change.as_of), proven, cluster)
    )


def loader(connection: sqlite3.Connection, channel: str) -> Callable[[Key], Put]:
    """Gives the object of a key that is there."""

    def one(key: Key) -> Put:
        row = connection.execute(_ONE, (channel, *key)).fetchone()
        return Put(Entry(*key, row[0], row[1]), msgspec.Raw(row[2]))

    return one
