"""What is remembered of the gate: the devices last let in, of which set, and in which run of the leaf. `gate.json`.

So that a restart of this unit neither closes an open gate nor forgets the devices while MetaManager is away.
"""

import logging
from pathlib import Path

import msgspec

from canopy.contracts.wire import AsOf, Name
from canopy.identity.private import write_private

log = logging.getLogger("canopy.edgeidentity")
MOST_BYTES = 32 << 20


class Remembered(msgspec.Struct, frozen=True, kw_only=True):
    """`devices` None: no proven set was ever read. `revoked` are kept out until they are provisioned anew."""

    run: str = ""
    devices: tuple[Name, ...] | None = None
    as_of: AsOf | None = None
    revoked: tuple[Name, ...] = ()


class Memory:
    """The file, and what it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.held = self._read()

    def write(self, held: Remembered) -> None:
        """On the disk when this returns."""
        if held != self.held:
            write_private(self.path, msgspec.json.encode(held))
            self.held = held

    def _read(self) -> Remembered:
        try:
            with self.path.open("rb") as file:
                return msgspec.json.decode(file.read(MOST_BYTES), type=Remembered)
        except FileNotFoundError:
            return Remembered()
        except (OSError, msgspec.DecodeError) as e:
            log.warning("%s cannot be read: %s; devices wait until MetaManager shows its set", self.path, e)
            return Remembered()
