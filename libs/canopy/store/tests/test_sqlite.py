"""The SQLite door: who owns the file, what a transaction is, what a damaged file says."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from canopy.store.errors import DatabaseCorrupt, DatabaseInUse, DatabaseUnusable, StoreError
from canopy.store.migrations import Migration
from canopy.store.sqlite import Database
from canopy.testing.wait import until

LAMPS = [Migration(1, "lamps", "CREATE TABLE lamp (name TEXT PRIMARY KEY); CREATE TABLE bulb (lamp REFERENCES lamp);")]
INSERT = "INSERT INTO lamp VALUES (?)"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database.open(tmp_path / "a.db", LAMPS) as opened:
        yield opened


async def names(db: Database) -> list[str]:
    return [name for (name,) in await db.fetchall("SELECT name FROM lamp ORDER BY name")]


async def test_it_is_power_safe_unless_told_otherwise(db: Database) -> None:
    pragmas = [await db.fetchone(f"PRAGMA {name}") for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert pragmas == [("wal",), (2,), (1,)]


async def test_a_weaker_durability_can_be_chosen(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "a.db", LAMPS, synchronous="NORMAL") as db:
        assert await db.fetchone("PRAGMA synchronous") == (1,)


async def test_nobody_else_may_read_the_file(db: Database) -> None:
    assert db.path.stat().st_mode & 0o777 == 0o600


async def test_missing_folders_are_made(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "x" / "y" / "a.db", LAMPS) as db:
        assert await names(db) == []


async def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match=r"file/a\.db cannot be opened"):
        async with Database.open(tmp_path / "file" / "a.db", LAMPS):
            pass


async def test_a_second_opener_is_told_the_file_and_the_pid(db: Database) -> None:
    with pytest.raises(DatabaseInUse, match=rf"{db.path} is in use by the process with pid {os.getpid()}"):
        async with Database.open(db.path, LAMPS):
            pass


async def test_after_closing_another_may_open(tmp_path: Path) -> None:
    for _ in range(2):
        async with Database.open(tmp_path / "a.db", LAMPS):
            pass


async def test_a_transaction_commits_at_its_end(db: Database) -> None:
    async with db.transaction() as tx:
        assert await tx.execute(INSERT, ["kitchen"]) == 1
        await tx.executemany(INSERT, [("hall",), ("attic",)])
        assert await tx.fetchone("SELECT count(*) FROM lamp") == (3,)
        assert len(await tx.fetchall("SELECT * FROM lamp")) == 3
    assert await names(db) == ["attic", "hall", "kitchen"]


async def test_an_error_inside_a_transaction_rolls_back(db: Database) -> None:
    with pytest.raises(LookupError):
        async with db.transaction() as tx:
            await tx.execute(INSERT, ["kitchen"])
            raise LookupError
    assert await names(db) == []


async def test_a_cancelled_transaction_rolls_back_and_the_next_works(db: Database) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        async with db.transaction() as tx:
            await tx.execute(INSERT, ["kitchen"])
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task})
    async with db.transaction() as tx:
        await tx.execute(INSERT, ["hall"])
    assert await names(db) == ["hall"]


async def test_a_cancelled_run_is_whole_and_the_next_works(db: Database) -> None:
    began, go_on = threading.Event(), threading.Event()

    def write(connection: sqlite3.Connection) -> None:
        began.set()
        go_on.wait(5)
        connection.executemany(INSERT, [("hall",), ("attic",)])

    task = asyncio.create_task(db.run(write))
    await until(began.is_set)
    task.cancel()
    await asyncio.wait({task})
    go_on.set()
    await db.run(lambda c: c.execute(INSERT, ["kitchen"]))
    assert await names(db) == ["attic", "hall", "kitchen"]  # the thread had begun: it goes through, before the next


async def test_readers_wait_for_an_open_transaction_instead_of_seeing_half_of_it(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute(INSERT, ["kitchen"])
        reading = asyncio.create_task(names(db))
        await asyncio.wait({reading}, timeout=0.02)
        assert not reading.done()
        await tx.execute(INSERT, ["hall"])
    assert await reading == ["hall", "kitchen"]


async def test_the_task_that_holds_a_transaction_is_told_to_use_it(db: Database) -> None:
    async with db.transaction():
        with pytest.raises(StoreError, match="use the transaction"):
            await db.fetchall("SELECT 1")


async def test_many_writers_take_turns(db: Database) -> None:
    async def write(number: int) -> None:
        async with db.transaction() as tx:
            (count,) = await tx.fetchone("SELECT count(*) FROM lamp") or (0,)
            await tx.execute(INSERT, [f"{count:03}"])

    await asyncio.gather(*(write(number) for number in range(20)))
    assert await names(db) == [f"{number:03}" for number in range(20)]


async def test_run_is_one_transaction_and_returns_what_the_function_returns(db: Database) -> None:
    def write(connection: sqlite3.Connection) -> int:
        connection.executemany(INSERT, [("hall",), ("attic",)])
        return 2

    assert await db.run(write) == 2
    assert (await names(db), db.commits) == (["attic", "hall"], 1)


async def test_an_error_in_run_rolls_back_and_comes_out(db: Database) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ["hall"])
        connection.execute(INSERT, ["hall"])

    with pytest.raises(sqlite3.IntegrityError):
        await db.run(write)
    assert (await names(db), db.commits) == ([], 0)


async def test_a_function_that_ends_the_transaction_by_itself_is_refused(db: Database) -> None:
    with pytest.raises(StoreError, match="leave COMMIT"):
        await db.run(lambda c: c.execute("ROLLBACK"))


async def test_read_refuses_to_write(db: Database) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await db.read(lambda c: c.execute(INSERT, ["hall"]))
    await db.run(lambda c: c.execute(INSERT, ["hall"]))
    assert await names(db) == ["hall"]


async def test_foreign_keys_hold(db: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        await db.run(lambda c: c.execute("INSERT INTO bulb VALUES ('nowhere')"))


async def test_commits_are_counted_and_timed(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute(INSERT, ["kitchen"])
    first = db.commit_seconds
    await db.run(lambda c: c.execute(INSERT, ["hall"]))
    assert db.commits == 2
    assert db.commit_seconds == pytest.approx(first + db.last_commit_seconds)
    assert db.last_commit_seconds > 0


async def test_a_file_that_is_no_database_says_what_to_do_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(DatabaseCorrupt, match=r"a\.db is damaged .* nothing was changed\. Move a\.db, a\.db-wal"):
        async with Database.open(path, LAMPS):
            pass
    assert path.read_bytes() == b"this is not a database" * 100


async def test_a_damaged_page_is_found_when_opening_and_the_lock_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with Database.open(path, LAMPS) as db:
        await db.run(lambda c: c.executemany(INSERT, [(f"lamp {n:06}",) for n in range(2_000)]))
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * 4096 + whole[12288:])
    for _ in range(2):  # the second would say "in use" if the first had kept the lock
        with pytest.raises(DatabaseCorrupt):
            async with Database.open(path, LAMPS):
                pass
    assert path.stat().st_size == len(whole)
