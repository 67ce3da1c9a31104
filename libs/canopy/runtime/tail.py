"""Follows a log file of another program: lines as they are written, also when the file is rotated or emptied."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 256 * 1024


class Tail:
    """New whole lines of a file, by its name. A line longer than CHUNK_BYTES is cut."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._rest = path, None, b""
        self._open(at_end=True)

    _file: BinaryIO | None

    def lines(self) -> Iterator[str]:
        """What has been written since the last time, at most CHUNK_BYTES of it."""
        if self._file is None or self._gone():
            self._open(at_end=False)
        if self._file is None:
            return
        *whole, self._rest = (self._rest + self._file.read(CHUNK_BYTES)).split(b"\n")
        self._rest = self._rest[-CHUNK_BYTES:]
        for line in whole:
            yield line.decode("utf-8", "replace")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, at_end: bool) -> None:
        self.close()
        self._rest = b""
        try:
            self._file = self._path.open("rb")
        except OSError:
            return
        if at_end:
            self._file.seek(0, os.SEEK_END)

    def _gone(self) -> bool:
        """Another file stands there now, or this one was emptied; what is left of the old one is read first."""
        assert self._file is not None
        mine = os.fstat(self._file.fileno())
        if mine.st_size > self._file.tell():
            return False
        try:
            there = self._path.stat()
        except OSError:
            return False
        return (there.st_ino, there.st_dev) != (mine.st_ino, mine.st_dev) or mine.st_size < self._file.tell()
