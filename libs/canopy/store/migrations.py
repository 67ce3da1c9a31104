"""Numbered migrations: reading them from a package, judging a file by them, applying them in one transaction.

Called by `sqlite.Database.open` on the database's thread; `migrations_of` by each unit's `unit.py`.
"""

import hashlib
import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from canopy.store.errors import DatabaseTooNew, MigrationChanged, MigrationFailed, MigrationsWrong

FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

RECORD = """CREATE TABLE IF NOT EXISTS canopy_migrations (
  number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at_ms INTEGER NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of a file's shape. `sql` holds any number of statements, without BEGIN or COMMIT."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()


def migrations_of(package: str) -> tuple[Migration, ...]:
    """The migrations in `package`'s folder `migrations/`, files `0001_name.sql`, in order.

    Raises MigrationsWrong for a SQL file with another kind of name, or a gap in the numbers.
    """
    folder = resources.files(package) / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return numbered(tuple(_migration(name, (folder / name).read_text(encoding="utf-8")) for name in names))


def _migration(file_name: str, sql: str) -> Migration:
    match = FILE_NAME.fullmatch(file_name)
    if match is None:
        raise MigrationsWrong(f"migration file {file_name!r}: the name must look like 0001_first_tables.sql")
    return Migration(int(match[1]), match[2], sql)


def numbered(migrations: Sequence[Migration]) -> tuple[Migration, ...]:
    """The same migrations, proven to be numbered 1, 2, 3 ... in order."""
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise MigrationsWrong(
                f"migration {migration.number:04} {migration.name!r} stands where {expected:04} must be"
            )
    return tuple(migrations)


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration], now_ms: int) -> None:
    """Bring the file to the newest shape: all steps in one transaction, a backup first if there was anything in it."""
    applied = _applied(connection)
    _judge(path, applied, migrations)
    missing = migrations[len(applied) :]
    if not missing:
        return
    if _holds_anything(connection):
        back_up(connection, backup_path(path, len(applied), len(migrations)))
    _apply_all(connection, path, missing, now_ms)


def _applied(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'canopy_migrations'").fetchone():
        return []
    return connection.execute("SELECT number, name, checksum FROM canopy_migrations ORDER BY number").fetchall()


def _holds_anything(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _judge(path: Path, applied: list[tuple[int, str, str]], migrations: Sequence[Migration]) -> None:
    if len(applied) > len(migrations):
        raise DatabaseTooNew(_too_new(path, len(applied), len(migrations)))
    for (number, name, checksum), known in zip(applied, migrations, strict=False):
        if checksum != known.checksum:
            raise MigrationChanged(
                f"{path}: migration {number:04} {name!r} was applied to this file with other contents than this "
                "release has; an applied migration must never be edited: install the release that wrote the file, "
                "and put the change into a migration of its own"
            )


def _too_new(path: Path, have: int, known: int) -> str:
    head = f"{path} was written by a newer release: it is at migration {have}, this release knows {known}; "
    backup = newest_backup(path, known)
    if backup is None:
        return (
            head + f"install the newer release again (there is no backup of migration {known} or older beside the file)"
        )
    return head + (
        f"install the newer release again, or go back to the backup {backup}: "
        f"move {path.name}, {path.name}-wal and {path.name}-shm aside and copy the backup to {path} "
        "(what was stored since that backup was made is then missing)"
    )


def backup_path(path: Path, before: int, after: int) -> Path:
    return path.with_name(f"{path.name}.backup-{before}-{after}")


def newest_backup(path: Path, known: int) -> Path | None:
    """The backup with the highest migration that this release can still read."""
    pattern = re.compile(re.escape(path.name) + r"\.backup-(\d+)-(\d+)")
    found = [(int(m[1]), p) for p in path.parent.iterdir() if (m := pattern.fullmatch(p.name)) and int(m[1]) <= known]
    return max(found)[1] if found else None


def back_up(connection: sqlite3.Connection, to: Path) -> None:
    """A whole copy by SQLite's online backup, on the disk before it bears its name."""
    partial = to.with_name(to.name + ".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    with closing(sqlite3.connect(partial)) as target:
        connection.backup(target)
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(to)
    sync_folder(to.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _apply_all(connection: sqlite3.Connection, path: Path, missing: Sequence[Migration], now_ms: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(RECORD)
        for migration in missing:
            _apply(connection, path, migration, now_ms)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _apply(connection: sqlite3.Connection, path: Path, migration: Migration, now_ms: int) -> None:
    where = f"{path}: migration {migration.number:04} {migration.name!r}"
    try:
        for statement in statements(migration.sql):
            connection.execute(statement)
    except sqlite3.Error as error:
        raise MigrationFailed(f"{where} failed: {error}; the file is as it was before") from error
    if not connection.in_transaction:
        raise MigrationFailed(f"{where} ended the transaction by itself; leave BEGIN and COMMIT out of migrations")
    if connection.execute("PRAGMA foreign_key_check").fetchone():
        raise MigrationFailed(f"{where} leaves a foreign key without its row; the file is as it was before")
    record = (migration.number, migration.name, migration.checksum, now_ms)
    connection.execute("INSERT INTO canopy_migrations VALUES (?, ?, ?, ?)", record)


def statements(sql: str) -> Iterator[str]:
    """Each statement of a script; `;` inside strings, comments and triggers does not cut.

    Our own because `executescript` commits before it begins, so two migrations would not share a transaction.
    """
    gathered = ""
    for piece in sql.split(";"):
        gathered += piece + ";"
        if sqlite3.complete_statement(gathered):
            yield from _unless_empty(gathered)
            gathered = ""
    yield from _unless_empty(gathered)


def _unless_empty(statement: str) -> Iterator[str]:
    if statement.strip(" \t\r\n;"):
        yield statement
