"""One owner a file, by flock on `<file>.lock`. Called by `sqlite.Database.open`; the kernel lets go when we die."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from canopy.store.errors import DatabaseInUse

PID_BYTES = 32


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Own `path` until the block ends, or raise DatabaseInUse naming the file and the holder's pid.

    The lock file stays behind: to remove it would let two openers lock two different files.
    """
    handle = os.open(_lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(handle, path)
        yield
    finally:
        os.close(handle)


def _lock_of(path: Path) -> Path:
    return path.with_name(path.name + ".lock")


def _take(handle: int, path: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, PID_BYTES, 0).decode(errors="replace").strip() or "unknown"
        raise DatabaseInUse(
            f"{path} is in use by the process with pid {holder} (lock file {_lock_of(path)}); "
            "only one process may have it open: stop that one first, or give this one another data directory"
        ) from None
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
