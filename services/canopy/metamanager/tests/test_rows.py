import sqlite3
from collections.abc import Iterator
from dataclasses import replace

import pytest
from msgspec import structs

from canopy.contracts.wire import AsOf
from canopy.metamanager import rows
from canopy.store.migrations import migrations_of
from canopy.sync.down import Change
from canopy.testing.cloud import put

AT = AsOf(epoch=1, revisions={"Device": 5})
CHANGE = Change((put("a"), put("b.c")), (), AT, AT, True)


@pytest.fixture
def file() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:")
    for migration in migrations_of("canopy.metamanager"):
        connection.executescript(migration.sql)
    yield connection
    connection.close()


def test_an_empty_file_is_an_empty_set(file: sqlite3.Connection) -> None:
    assert rows.load(file, "devices") == rows.Stored()


def test_what_was_stored_is_loaded(file: sqlite3.Connection) -> None:
    rows.store(file, "devices", CHANGE, "c1")
    entries = tuple(p.entry for p in CHANGE.puts)
    assert rows.load(file, "devices") == rows.Stored(entries, AT, AT, "c1")
    assert rows.load(file, "workloads") == rows.Stored()
    assert rows.loader(file, "devices")(entries[1].key) == put("b.c")


def test_deletes_and_newer_objects_replace(file: sqlite3.Connection) -> None:
    rows.store(file, "devices", CHANGE, "")
    newer = replace(CHANGE, puts=(put("b.c", "2"),), deletes=(put("a").entry.key,), proven=None)
    rows.store(file, "devices", newer, "")
    assert rows.load(file, "devices") == rows.Stored((put("b.c", "2").entry,), AT, None, "")
    assert rows.loader(file, "devices")(put("b.c").entry.key) == put("b.c", "2")


def test_one_object_that_cannot_be_stored_stands_without_its_content_and_the_others_as_they_are(
    file: sqlite3.Connection,
) -> None:
    bad = structs.replace(put("bad"), body=None)
    change = replace(CHANGE, puts=(put("a"), bad, put("b.c")))
    with pytest.raises(TypeError):
        rows.store(file, "devices", change, "c1")
    file.rollback()
    ((failed, bug),) = rows.store_apart(file, "devices", change, "c1")
    assert failed is bad and isinstance(bug, TypeError)
    assert set(rows.load(file, "devices").entries) == {p.entry for p in change.puts}, "the set is the cloud's"
    load = rows.loader(file, "devices")
    assert load(put("b.c").entry.key) == put("b.c") and bytes(load(bad.entry.key).body) == b"{}"
