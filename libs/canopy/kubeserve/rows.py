"""What SQLite holds: the encoded objects, and the one revision counter. Called by `store.py` only."""

import sqlite3
from collections.abc import Sequence

from canopy.kubeserve.stored import Change, Stored, stored

_PUT = "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM objects WHERE api_group = ? AND plural = ? AND namespace = ? AND name = ?"


def write(connection: sqlite3.Connection, changes: Sequence[Change]) -> None:
    """Apply a batch in order."""
    for change in changes:
        where = (*change.new.kind, *change.new.key)
        if change.type == "DELETED":
            connection.execute(_DELETE, where)
        else:
            connection.execute(_PUT, (*where, change.new.body))
    connection.execute("UPDATE counter SET revision = ?", (changes[-1].new.revision,))


def load(connection: sqlite3.Connection) -> tuple[int, list[Stored]]:
    """The counter and every object."""
    revision = connection.execute("SELECT revision FROM counter").fetchone()[0]
    rows = connection.execute("SELECT api_group, plural, body FROM objects")
    return revision, [stored((group, plural), body) for group, plural, body in rows]
