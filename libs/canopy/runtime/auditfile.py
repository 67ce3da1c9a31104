"""The file in which a unit keeps its audit until the cloud has it: a line a record, fsynced. `audit` calls it."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from canopy.contracts.identity_wire import AuditRecord

log = logging.getLogger("canopy.audit")
MOST_FILE_BYTES = 8 << 20
_RECORD = msgspec.json.Decoder(AuditRecord)
_ENCODER = msgspec.json.Encoder()


class AuditFile:
    """`path` None: nothing is kept. A disk that cannot take it is said once, and the records stay in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._said, self._lines = path, False, 0

    def read(self) -> list[AuditRecord]:
        """What was there when the unit ended; a line that a power cut broke is passed over."""
        if self._path is None or not self._path.exists():
            return []
        try:
            with self._path.open("rb") as file:
                lines = file.read(MOST_FILE_BYTES).splitlines()
        except OSError as e:
            log.warning("%s cannot be read: %s", self._path, e)
            return []
        self._lines = len(lines)
        return [record for line in lines if (record := _read(line)) is not None]

    def append(self, record: AuditRecord) -> None:
        """On the disk when this returns."""
        self._write([record], os.O_APPEND)

    def tidy(self, records: Sequence[AuditRecord], most: int) -> None:
        """Only `records` count now: the file is emptied, or written anew when it holds twice as many as it may."""
        if (not records and self._lines) or self._lines > 2 * most:
            self._write(records, os.O_TRUNC)

    def _write(self, records: Sequence[AuditRecord], how: int) -> None:
        if self._path is None:
            return
        try:
            self._put(self._path, b"".join(_ENCODER.encode(one) + b"\n" for one in records), how)
            self._lines = len(records) + (self._lines if how == os.O_APPEND else 0)
        except OSError as e:
            if not self._said:
                log.warning("the audit is kept in memory only: %s", e)
            self._said = True

    @staticmethod
    def _put(path: Path, data: bytes, how: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path if how == os.O_APPEND else path.with_name(path.name + ".new")
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | how, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if beside != path:
            beside.replace(path)


def _read(line: bytes) -> AuditRecord | None:
    try:
        return _RECORD.decode(line)
    except msgspec.MsgspecError:
        return None
