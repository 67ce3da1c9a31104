"""The demo's folder: one demo at a time in it, what is recorded of it, and the cleaning up after one that was killed.

`lock` is held by the demo that is up; `processes.json` lists what it started, so that the next one may end what a
killed one left; `endpoints.json` (0600) is for people and programs, `kubeconfig` (0600) what a demo on somebody's
cluster uses of theirs: both are there only while the demo is up.
"""

import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from canopy.cli.failure import Failure, UsageFailure
from canopy.testing.processes import birth

LOCK, PROCESSES, ENDPOINTS, KUBECONFIG = "lock", "processes.json", "endpoints.json", "kubeconfig"
GONE_SECONDS = 5.0
LOOK_SECONDS = 0.02

Pids = Mapping[str, tuple[int, Path]]


class Folder:
    """`with Folder(path).taken() as folder:`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.ended: list[str] = []
        """What a killed demo had left running here, and was ended."""

    @contextmanager
    def taken(self) -> Iterator["Folder"]:
        """Hold the folder, empty but for the lock.

        Raises Failure while another demo holds it, UsageFailure if it has files that are not a demo's.
        """
        self._check_ours()
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._lock(handle)
            self._clean()
            self.record({})
            yield self
        finally:
            os.close(handle)

    def record(self, pids: Pids) -> None:
        """Write down what runs, each with its birth."""
        found = {name: _identity(pid) for name, (pid, _) in pids.items()}
        self._write(PROCESSES, {"demo": _identity(os.getpid()), **found})

    def publish(self, endpoints: Mapping[str, Any], pids: Pids) -> None:
        """Write endpoints.json."""
        processes = {name: {"pid": pid, "log": str(log)} for name, (pid, log) in sorted(pids.items())}
        self._write(ENDPOINTS, {**endpoints, "processes": processes})

    def pin(self, kubeconfig: Mapping[str, Any]) -> Path:
        """Write one context of a kubeconfig down: whoever changes theirs meanwhile leads no unit elsewhere."""
        self._write(KUBECONFIG, kubeconfig)
        return self.path / KUBECONFIG

    def withdraw(self) -> None:
        """The demo ends: what it offered is gone."""
        for name in (ENDPOINTS, PROCESSES, KUBECONFIG):
            (self.path / name).unlink(missing_ok=True)

    def _check_ours(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise UsageFailure(f"--dir {self.path} is not a folder; name one that is empty or not there yet")
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / LOCK).is_file():
            raise UsageFailure(
                f"--dir {self.path} holds files that are not a demo's, which would empty it; name a folder that is "
                "empty or not there yet"
            )

    def _lock(self, handle: int) -> None:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = self._recorded().get("demo", {}).get("pid", "unknown")
            raise Failure(
                f"a demo is up in {self.path} (pid {pid}): end it with Ctrl-C there (or kill {pid}), or say --dir for "
                "another folder"
            ) from None

    def _clean(self) -> None:
        for name, process in self._recorded().items():
            if name != "demo" and end(process):
                self.ended.append(name)
        for path in self.path.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()

    def _recorded(self) -> dict[str, Any]:
        try:
            found = json.loads((self.path / PROCESSES).read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, value: Any) -> None:
        """At once or not at all, readable by its owner only."""
        path, new = self.path / name, self.path / f"{name}.new"
        new.unlink(missing_ok=True)
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(json.dumps(value, indent=2) + "\n")
        new.replace(path)


def _identity(pid: int) -> dict[str, Any]:
    return {"pid": pid, "birth": birth(pid)}


def end(process: Mapping[str, Any]) -> bool:
    """Kill a recorded process if the pid is still its own; False if it is gone (or the pid is another's by now)."""
    pid, born = process.get("pid"), process.get("birth")
    if not isinstance(pid, int) or not born or birth(pid) != born:
        return False
    os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + GONE_SECONDS
    while birth(pid) == born and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    return True
