"""What was acknowledged is there after kill -9, and the lock of the dead is free."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from canopy.store.errors import DatabaseInUse
from canopy.store.migrations import Migration
from canopy.store.sqlite import Database

TABLE = [Migration(1, "numbers", "CREATE TABLE number (n INTEGER);")]

WRITER = """
import asyncio, sys
from canopy.store.migrations import Migration
from canopy.store.sqlite import Database

async def main(path):
    async with Database.open(path, [Migration(1, "numbers", "CREATE TABLE number (n INTEGER);")]) as db:
        for n in range(1_000_000):
            await db.run(lambda c: c.execute("INSERT INTO number VALUES (?)", [n]))
            print(n, flush=True)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "a.db")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.server
async def test_every_commit_that_was_acknowledged_survives_kill_9(
    tmp_path: Path, writer: "subprocess.Popen[str]"
) -> None:
    assert writer.stdout is not None
    acknowledged = [writer.stdout.readline() for _ in range(50)]
    with pytest.raises(DatabaseInUse, match=f"pid {writer.pid} "):
        async with Database.open(tmp_path / "a.db", TABLE):
            pass
    writer.kill()
    acknowledged += writer.stdout.readlines()
    async with Database.open(tmp_path / "a.db", TABLE) as db:
        rows = [n for (n,) in await db.fetchall("SELECT n FROM number ORDER BY n")]
    said = [int(line) for line in acknowledged if line.endswith("\n")]
    assert rows[: len(said)] == said
    assert len(rows) - len(said) in (0, 1)  # one may have been committed and not yet said
