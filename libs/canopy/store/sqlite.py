"""The door to SQLite: one file, one owner, one connection on one thread. Units' `unit.py` opens it, their rows use it.

What a commit acknowledged survives a power cut with `synchronous="FULL"` (fsynced first), and kill -9 with "NORMAL".
Reads and writes take turns: nobody sees half of somebody else's transaction.
"""

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import aiosqlite

from canopy.store.errors import DatabaseCorrupt, DatabaseUnusable, StoreError
from canopy.store.lockfile import owned
from canopy.store.migrations import Migration, migrate, numbered, sync_folder

T = TypeVar("T")
Row = tuple[Any, ...]
Synchronous = Literal["FULL", "NORMAL"]

BUSY_TIMEOUT_MS = 5_000  # nobody else should be there; a person with the sqlite3 shell may be
JOURNAL_LIMIT_BYTES = 16 << 20


class Transaction:
    """Statements of one open transaction; from `Database.transaction`, not usable after its block."""

    def __init__(self, on_thread: "_OnThread") -> None:
        self._on_thread = on_thread

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement; returns the number of rows that it changed (-1 for those that change none)."""
        return await self._on_thread(lambda c: c.execute(sql, parameters).rowcount)

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        await self._on_thread(lambda c: c.executemany(sql, rows) and None)

    async def fetchall(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return await self._on_thread(lambda c: c.execute(sql, parameters).fetchall())

    async def fetchone(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return await self._on_thread(lambda c: _first(c, sql, parameters))


class Database:
    """One owned SQLite file. `commits` and `commit_seconds` only rise; `last_commit_seconds` is the newest commit's.

    `on_commit` hears of each commit's seconds, on the loop's thread.
    """

    def __init__(self, path: Path, on_thread: "_OnThread", on_commit: "Callable[[float], None]") -> None:
        self.path, self._on_commit = path, on_commit
        self.commits = 0
        self.commit_seconds = 0.0
        self.last_commit_seconds = 0.0
        self._on_thread = on_thread
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str | Path,
        migrations: Sequence[Migration],
        *,
        synchronous: Synchronous = "FULL",
        on_commit: Callable[[float], None] = lambda seconds: None,
    ) -> AsyncIterator["Database"]:
        """Own, check and migrate the file (and its folder, made if missing) until the block ends.

        Raises DatabaseInUse, DatabaseCorrupt, DatabaseTooNew, DatabaseUnusable, MigrationChanged, MigrationFailed.
        """
        path, migrations = _made(Path(path)), numbered(migrations)
        with owned(path):
            async with aiosqlite.connect(path, isolation_level=None, cached_statements=256) as connection:
                on_thread = _OnThread(path, connection)
                await on_thread(lambda c: _prepare(c, path, migrations, synchronous))
                yield cls(path, on_thread, on_commit)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """BEGIN IMMEDIATE ... COMMIT; an error or a cancellation rolls back. One at a time, the others wait.

        Each statement is a thread hop (about 50 us): for a batch use `run`.
        """
        async with self._taken():
            try:
                await self._on_thread(_begin)
                yield Transaction(self._on_thread)
                await self._on_thread(self._commit)
                self._on_commit(self.last_commit_seconds)
            finally:
                await asyncio.shield(self._on_thread(_roll_back))

    async def run(self, write: Callable[[sqlite3.Connection], T]) -> T:
        """Run a synchronous function on the database's thread as one transaction; one thread hop however much it does.

        It is committed before this returns; what the function raises rolls back and comes out here. The function must
        neither commit nor await. A cancelled caller may find its transaction committed.
        """
        async with self._taken():
            result = await self._on_thread(lambda c: self._whole(c, write))
            self._on_commit(self.last_commit_seconds)
            return result

    async def read(self, read: Callable[[sqlite3.Connection], T]) -> T:
        """Run a synchronous function that only reads; it sees one state. Writing raises sqlite3.OperationalError."""
        async with self._taken():
            return await self._on_thread(lambda c: _reading(c, read))

    async def fetchall(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        return await self.read(lambda c: c.execute(sql, parameters).fetchall())

    async def fetchone(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        return await self.read(lambda c: _first(c, sql, parameters))

    @asynccontextmanager
    async def _taken(self) -> AsyncIterator[None]:
        task = asyncio.current_task()
        if task is self._holder:
            raise StoreError("this task is inside `transaction()` of the same database: use the transaction it gave")
        async with self._turn:
            self._holder = task
            try:
                yield
            finally:
                self._holder = None

    def _whole(self, connection: sqlite3.Connection, write: Callable[[sqlite3.Connection], T]) -> T:
        _begin(connection)
        try:
            result = write(connection)
            self._commit(connection)
        finally:
            _roll_back(connection)
        return result

    def _commit(self, connection: sqlite3.Connection) -> None:
        if not connection.in_transaction:
            raise StoreError("the transaction was ended inside: leave COMMIT and ROLLBACK to the database")
        began = time.perf_counter()
        connection.execute("COMMIT")
        self.last_commit_seconds = time.perf_counter() - began
        self.commit_seconds += self.last_commit_seconds
        self.commits += 1


class _OnThread:
    """Calls functions on aiosqlite's thread, in order; a damaged file becomes our own error."""

    def __init__(self, path: Path, connection: aiosqlite.Connection) -> None:
        self._path = path
        self._connection = connection

    async def __call__(self, work: Callable[[sqlite3.Connection], T]) -> T:
        result: T = await self._connection._execute(self._guarded, work)  # type: ignore[no-untyped-call]
        return result

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with _damage_named(self._path):
            return work(self._connection._conn)


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise
        raise DatabaseCorrupt(_damage(path, str(error))) from error


def _damage(path: Path, what: str) -> str:
    return (
        f"{path} is damaged ({what}); nothing was changed. Move {path.name}, {path.name}-wal and {path.name}-shm aside "
        f"and keep them; then start again with an empty file (the set is fetched anew), or copy a {path.name}.backup-* "
        f"there, or what `sqlite3 {path.name} .recover` saves"
    )


def _made(path: Path) -> Path:
    """Made by us and not by SQLite, so that nobody else can read it, and so that its name survives a power cut."""
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        sync_folder(path.parent)
    except OSError as error:
        raise DatabaseUnusable(f"{path} cannot be opened for writing: {error.strerror}") from error
    return path


def _prepare(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration], synchronous: Synchronous
) -> None:
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _check(connection, path)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise DatabaseUnusable(
            f"{path}: the file system cannot hold a write-ahead log (mode {mode!r}); use a local disk"
        )
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone stops at the drive's cache
    connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_LIMIT_BYTES}")
    migrate(connection, path, migrations, time.time_ns() // 1_000_000)
    connection.execute("PRAGMA foreign_keys = ON")  # after the migrations, which may rebuild tables


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise DatabaseCorrupt(_damage(path, found))


def _begin(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")


def _roll_back(connection: sqlite3.Connection) -> None:
    """End what is still open. After a commit there is nothing; after a cancelled one the commit went ahead of us."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _reading(connection: sqlite3.Connection, read: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("PRAGMA query_only = ON")
    try:
        return read(connection)
    finally:
        connection.execute("PRAGMA query_only = OFF")


def _first(connection: sqlite3.Connection, sql: str, parameters: Sequence[Any]) -> Row | None:
    row: Row | None = connection.execute(sql, parameters).fetchone()
    return row
