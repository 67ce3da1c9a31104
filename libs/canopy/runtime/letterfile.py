"""The small file in which a unit keeps its dead letters until the cloud has them. Only `letters` reads and writes it.

A unit that owns no database needs none for this: the file is written whole, beside the old one, and put in its place.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from canopy.contracts.wire import DeadLetter

log = logging.getLogger("canopy.letters")
MOST_FILE_BYTES = 4 << 20


class LetterFile:
    """`path` None: nothing is kept. A disk that cannot take it is said once, and the letters stay in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._said = path, False

    def read(self) -> list[DeadLetter]:
        """What was there when the unit ended; nothing where it cannot be read."""
        if self._path is None or not self._path.exists():
            return []
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MOST_FILE_BYTES), type=list[DeadLetter])
        except (OSError, msgspec.DecodeError) as e:
            log.warning("%s cannot be read: %s", self._path, e)
            return []

    def write(self, letters: Sequence[DeadLetter]) -> None:
        """All of it is on the disk when this returns."""
        if self._path is None or (not letters and not self._path.exists()):
            return
        try:
            self._put(self._path, msgspec.json.encode(letters))
        except OSError as e:
            if not self._said:
                log.warning("dead letters are kept in memory only: %s", e)
            self._said = True

    @staticmethod
    def _put(path: Path, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
