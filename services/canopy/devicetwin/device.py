"""A device as this unit holds it: what the cloud says of it (`Spec`), its state, and what only this node knows."""

from typing import Any

import msgspec
from msgspec.structs import replace

from canopy.contracts.wire import DeviceState, Name, StateEntry

Taken = tuple[str, str]
"""(uid, value) of a desired value that was taken from the cloud."""


class Property(msgspec.Struct, frozen=True, omit_defaults=True):
    """What Device and DeviceModel say of one property. `type` is empty where no model declares it."""

    type: str = ""
    read_only: bool = False
    minimum: str = ""
    maximum: str = ""
    desired: str | None = None


class Spec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What this unit needs of a Device and its model."""

    description: str = ""
    attributes: dict[str, str] = {}
    properties: dict[str, Property] = {}


class Local(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stays here: desired values taken, twins that may not be deleted, the mapper's last (session, seq)."""

    taken: dict[str, Taken] = {}
    required: tuple[str, ...] = ()
    mapper: str = ""
    seq: int = 0


class Device(msgspec.Struct, frozen=True):
    """One row. `revision` rises with every change of `state` (0: it never had one); `trace` belongs to that change.

    `weight` is at least the bytes of the encoded state; exact after `shelf.seal`.
    """

    namespace: str
    name: str
    uid: str
    device_revision: int = 0
    spec: Spec = Spec()
    state: DeviceState = DeviceState()
    revision: int = 0
    acknowledged: bool = True
    local: Local = Local()
    trace: str = ""
    digest: str = ""
    weight: int = 0

    @property
    def key(self) -> Name:
        return (self.namespace, self.name)

    @property
    def entry(self) -> StateEntry:
        """What stands for it in the reported set."""
        return StateEntry(self.namespace, self.name, self.uid, self.revision, self.digest)


def changed(device: Device, state: DeviceState, **others: Any) -> Device:
    """The device with another state: a higher revision, not acknowledged."""
    return replace(device, state=state, revision=device.revision + 1, acknowledged=False, **others)
