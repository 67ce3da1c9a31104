"""What the file holds: a row a device, the position in the gateway's stream, the `as_of` of the set last applied.

Called by `handlers` (writes, one transaction a batch) and by `unit` (everything, once at start).
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import msgspec

from canopy.contracts.wire import AsOf, DeviceState, Name
from canopy.devicetwin.device import Device, Local, Spec
from canopy.devicetwin.shelf import seal
from canopy.store.sqlite import Database
from canopy.sync.ingest import Position

_COLUMNS = "namespace, name, uid, device_revision, spec, state, revision, acknowledged, local, trace"
_PUT = f"INSERT OR REPLACE INTO devices ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_DROP = "DELETE FROM devices WHERE namespace = ? AND name = ?"
_MARK = "INSERT OR REPLACE INTO marks VALUES (?, ?)"
POSITION, AS_OF = "position", "as_of"


class Stored(NamedTuple):
    """Everything, as it is read at start."""

    devices: list[Device]
    position: Position
    as_of: AsOf | None


Changes = Mapping[Name, tuple[Device, bytes] | None]
"""Sealed devices with their encoded state; None deletes."""


class Rows:
    """The unit's file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Stored:
        rows = await self._database.fetchall(f"SELECT {_COLUMNS} FROM devices")  # noqa: S608
        marks: dict[str, bytes] = dict(await self._database.fetchall("SELECT name, value FROM marks"))
        position = msgspec.json.decode(marks.get(POSITION, b"{}"), type=Position)
        as_of = msgspec.json.decode(marks[AS_OF], type=AsOf) if AS_OF in marks else None
        return Stored([_device(row) for row in rows], position, as_of)

    async def keep(self, position: Position) -> None:
        """The position alone: it was taken in another run of nats-server."""
        await self.write({}, position, None)

    async def write(self, changes: Changes, position: Position, as_of: AsOf | None) -> None:
        """One transaction: all of it is on the disk when this returns."""
        puts = [_row(*found) for found in changes.values() if found is not None]
        drops = [name for name, found in changes.items() if found is None]
        marks = [(POSITION, msgspec.json.encode(asdict(position)))]
        if as_of is not None:
            marks.append((AS_OF, msgspec.json.encode(as_of)))

        def write(connection: sqlite3.Connection) -> None:
            if drops:
                connection.executemany(_DROP, drops)
            if puts:
                connection.executemany(_PUT, puts)
            connection.executemany(_MARK, marks)

        await self._database.run(write)


def _row(device: Device, content: bytes) -> tuple[Any, ...]:
    return (
        device.namespace,
        device.name,
        device.uid,
        device.device_revision,
        msgspec.json.encode(device.spec),
        content,
        device.revision,
        device.acknowledged,
        msgspec.json.encode(device.local),
        device.trace,
    )


def _device(row: tuple[Any, ...]) -> Device:
    namespace, name, uid, device_revision, spec, state, revision, acknowledged, local, trace = row
    device = Device(
        namespace,
        name,
        uid,
        device_revision,
        msgspec.json.decode(spec, type=Spec),
        msgspec.json.decode(state, type=DeviceState),
        revision,
        bool(acknowledged),
        msgspec.json.decode(local, type=Local),
        trace,
    )
    return seal(device)[0]
