"""The demo's folder: one demo at a time, only its own files and processes are touched."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from canopy.cli.failure import Failure, UsageFailure
from canopy.cli.folder import ENDPOINTS, PROCESSES, Folder
from canopy.testing.processes import birth


@pytest.fixture
def sleeper() -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def left_behind(folder: Path, **processes: object) -> None:
    with Folder(folder).taken():
        pass
    (folder / PROCESSES).write_text(json.dumps(processes))
    (folder / "hub").mkdir()
    (folder / "hub/js").write_text("old")


def test_a_second_demo_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with Folder(tmp_path / "d").taken() as folder:
        folder.record({})
        with pytest.raises(Failure, match=f"pid {os.getpid()}"), Folder(tmp_path / "d").taken():
            pass
    with Folder(tmp_path / "d").taken():
        pass


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear")
    with pytest.raises(UsageFailure, match="not a demo's"), Folder(tmp_path).taken():
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(UsageFailure, match="not a folder"), Folder(tmp_path / "f").taken():
        pass


def test_what_a_killed_demo_left_is_ended_and_removed(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    left_behind(tmp_path, hub={"pid": sleeper.pid, "birth": birth(sleeper.pid)})
    with Folder(tmp_path).taken() as folder:
        assert folder.ended == ["hub"]
        assert sleeper.wait(5) == -9
        assert not (tmp_path / "hub").exists()


def test_a_process_that_has_the_pid_of_a_recorded_one_is_not_ended(
    tmp_path: Path, sleeper: "subprocess.Popen[bytes]"
) -> None:
    left_behind(tmp_path, hub={"pid": sleeper.pid, "birth": "0"}, odd={"pid": "x"}, older={})
    with Folder(tmp_path).taken() as folder:
        assert folder.ended == [] and sleeper.poll() is None


def test_a_record_that_cannot_be_read_ends_nothing(tmp_path: Path) -> None:
    left_behind(tmp_path)
    (tmp_path / PROCESSES).write_text("{")
    with Folder(tmp_path).taken() as folder:
        assert folder.ended == []


def test_endpoints_are_for_their_owner_only_and_gone_afterwards(tmp_path: Path) -> None:
    with Folder(tmp_path / "d").taken() as folder:
        folder.publish({"node": "edge-1"}, {"hub": (1, Path("/x/hub.log"))})
        file = folder.path / ENDPOINTS
        assert file.stat().st_mode & 0o777 == 0o600 and folder.path.stat().st_mode & 0o777 == 0o700
        found = json.loads(file.read_text())
        assert found == {"node": "edge-1", "processes": {"hub": {"pid": 1, "log": "/x/hub.log"}}}
        folder.withdraw()
        assert not file.exists()
