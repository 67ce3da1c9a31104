"""Numbered migrations: which are read, when a file is refused, and what is left when one fails."""

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from canopy.store.errors import DatabaseTooNew, MigrationChanged, MigrationFailed, MigrationsWrong
from canopy.store.migrations import Migration, migrations_of, numbered, statements
from canopy.store.sqlite import Database

FIRST = Migration(1, "first", "CREATE TABLE lamp (name TEXT PRIMARY KEY);")
SECOND = Migration(2, "second", "ALTER TABLE lamp ADD COLUMN state TEXT;")
BROKEN = Migration(2, "broken", "CREATE TABLE half (a); CREATE GARBAGE;")


async def made(path: Path, *migrations: Migration) -> None:
    async with Database.open(path, migrations):
        pass


def files(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_each_migration_is_recorded_with_number_name_checksum_and_time(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "a.db", [FIRST, SECOND]) as db:
        rows = await db.fetchall("SELECT number, name, checksum, applied_at_ms > 0 FROM canopy_migrations")
    assert rows == [(1, "first", FIRST.checksum, 1), (2, "second", SECOND.checksum, 1)]


async def test_a_new_file_makes_no_backup(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST, SECOND)
    assert not [name for name in files(tmp_path) if ".backup" in name]


async def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST)
    await made(tmp_path / "a.db", FIRST)
    assert not [name for name in files(tmp_path) if ".backup" in name]


async def test_an_existing_file_is_backed_up_as_it_was_before_it_is_migrated(tmp_path: Path) -> None:
    async with Database.open(tmp_path / "a.db", [FIRST]) as db, db.transaction() as tx:
        await tx.execute("INSERT INTO lamp VALUES ('kitchen')")
    await made(tmp_path / "a.db", FIRST, SECOND)
    with closing(sqlite3.connect(tmp_path / "a.db.backup-1-2")) as backup:
        assert backup.execute("SELECT * FROM lamp").fetchall() == [("kitchen",)]
    assert (tmp_path / "a.db.backup-1-2").stat().st_mode & 0o777 == 0o600
    assert not [name for name in files(tmp_path) if name.endswith(".partial")]


async def test_a_backup_copied_back_opens_with_the_older_release(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    await made(path, FIRST)
    await made(path, FIRST, SECOND)
    (tmp_path / "a.db.backup-1-2").replace(path)
    await made(path, FIRST)


async def test_a_newer_file_is_refused_and_names_the_backup_to_restore(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST)
    await made(tmp_path / "a.db", FIRST, SECOND)
    with pytest.raises(DatabaseTooNew, match=r"at migration 2, this release knows 1;.*a\.db\.backup-1-2"):
        await made(tmp_path / "a.db", FIRST)


async def test_a_newer_file_without_a_backup_says_that_there_is_none(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST, SECOND)
    with pytest.raises(DatabaseTooNew, match="no backup of migration 1 or older"):
        await made(tmp_path / "a.db", FIRST)


async def test_an_edited_migration_is_refused(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST)
    with pytest.raises(MigrationChanged, match=r"0001 'first'.*must never be edited"):
        await made(tmp_path / "a.db", Migration(1, "first", "CREATE TABLE lamp (name TEXT, colour TEXT);"))


def test_line_ends_do_not_change_a_checksum() -> None:
    assert Migration(1, "a", "SELECT 1;\r\nSELECT 2;").checksum == Migration(1, "a", "SELECT 1;\nSELECT 2;").checksum


async def test_a_failing_migration_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    await made(tmp_path / "a.db", FIRST)
    with pytest.raises(MigrationFailed, match="0002 'broken' failed"):
        await made(tmp_path / "a.db", FIRST, BROKEN)
    assert tables(tmp_path / "a.db") == {"lamp", "canopy_migrations"}
    await made(tmp_path / "a.db", FIRST, SECOND)


async def test_steps_before_a_failing_one_are_undone_with_it(tmp_path: Path) -> None:
    with pytest.raises(MigrationFailed):
        await made(tmp_path / "a.db", FIRST, BROKEN)
    assert tables(tmp_path / "a.db") == set()


async def test_a_migration_that_commits_by_itself_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationFailed, match="leave BEGIN and COMMIT out"):
        await made(tmp_path / "a.db", Migration(1, "sly", "CREATE TABLE a (b); COMMIT;"))


async def test_a_migration_that_leaves_a_dangling_reference_is_refused(tmp_path: Path) -> None:
    sql = "CREATE TABLE a (id PRIMARY KEY); CREATE TABLE b (a REFERENCES a (id)); INSERT INTO b VALUES (7);"
    with pytest.raises(MigrationFailed, match="foreign key"):
        await made(tmp_path / "a.db", Migration(1, "dangling", sql))


@pytest.mark.parametrize("numbers", [(2,), (1, 3), (1, 1), (2, 1)])
def test_numbers_that_are_not_one_two_three_are_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(MigrationsWrong):
        numbered([Migration(number, "x", "SELECT 1") for number in numbers])


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("", 0),
        ("  ;\n", 0),
        ("SELECT 1", 1),
        ("SELECT 1; SELECT 2;", 2),
        ("SELECT 'a;b'; SELECT 2;", 2),
        ("SELECT 1; -- one; two\nSELECT 2;", 2),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END; SELECT 3;", 2),
    ],
)
def test_a_script_is_cut_at_its_statements_only(sql: str, count: int) -> None:
    assert len(list(statements(sql))) == count


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / f"canopy_{uuid.uuid4().hex}" / "migrations"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_a_package_s_migrations_are_read_in_order(package: Path) -> None:
    (package / "0002_second.sql").write_text("SELECT 2;")
    (package / "0001_first.sql").write_text("SELECT 1;")
    (package / "README.md").write_text("not a migration")
    found = migrations_of(package.parent.name)
    assert found == (Migration(1, "first", "SELECT 1;"), Migration(2, "second", "SELECT 2;"))


def test_a_badly_named_migration_file_is_refused(package: Path) -> None:
    (package / "1-First.sql").write_text("SELECT 1;")
    with pytest.raises(MigrationsWrong, match="0001_first_tables"):
        migrations_of(package.parent.name)
