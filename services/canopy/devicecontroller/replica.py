"""What this replica has seen of the cluster. The informers write it, pages are answered from it, the leader acts on it.

Everything here happens between two awaits: whoever reads finds objects and revisions that belong together.
"""

from typing import Protocol

from canopy.contracts.devices import DEVICE
from canopy.contracts.wire import AsOf, Name
from canopy.devicecontroller.objects import KINDS, Seen, StatusSeen
from canopy.devicecontroller.placement import Placement, Touched

FIRST_EPOCH = 1
"""The epoch of a cluster whose stream CLUSTER says none."""


class Duty(Protocol):
    """What the leader wants to hear of."""

    def touched(self, touched: set[Touched]) -> None:
        """Sets of nodes have changed."""

    def device(self, old: Seen | None, new: Seen | None) -> None: ...

    def model(self, old: Seen | None, new: Seen | None) -> None: ...

    def status(self, name: Name) -> None:
        """A DeviceStatus has changed, or is no more."""

    def node(self, name: str) -> None:
        """A Node came or went."""


class Replica:
    """`duty` is there while this replica leads. `epoch` is None until CLUSTER was read."""

    def __init__(self) -> None:
        self.placement = Placement()
        self.statuses: dict[Name, StatusSeen] = {}
        self.nodes: set[str] = set()
        self.revisions = dict.fromkeys(KINDS, 0)
        self.statuses_synced = self.nodes_synced = False
        self.epoch: int | None = None
        self.cluster = ""
        self.duty: Duty | None = None

    @property
    def as_of(self) -> AsOf | None:
        """How far this replica has seen; None until it has seen all of it once (RULES 4)."""
        if self.epoch is None or not self.cluster or not all(self.revisions.values()):
            return None
        return AsOf(epoch=self.epoch, revisions=dict(self.revisions))

    def moved(self, kind: str, revision: int) -> None:
        """Everything of `kind` up to `revision` was seen."""
        self.revisions[kind] = revision

    def changed(self, old: Seen | None, new: Seen | None) -> None:
        """A Device or a DeviceModel came, changed or went."""
        placement, seen = self.placement, new or old
        if seen is None:
            return
        touched = placement.drop(seen.kind, seen.id) if new is None else placement.put(new)
        if self.duty is not None:
            (self.duty.device if seen.kind == DEVICE else self.duty.model)(old, new)
            self.duty.touched(touched)

    def status(self, name: Name, new: StatusSeen | None) -> None:
        """A DeviceStatus came, changed or went."""
        if new is None:
            self.statuses.pop(name, None)
        else:
            self.statuses[name] = new
        if self.duty is not None:
            self.duty.status(name)

    def node(self, name: str, there: bool) -> None:
        """A Node came or went."""
        (self.nodes.add if there else self.nodes.discard)(name)
        if self.duty is not None:
            self.duty.node(name)

    def model_of(self, device: Seen) -> Seen | None:
        return self.placement.models.get((device.namespace, device.model))

    @property
    def seen_devices(self) -> int:
        """The Device revision up to which this replica knows all (RULES 26)."""
        return self.revisions[DEVICE]

    @property
    def complete(self) -> bool:
        """True when what a leader needs to judge a device is there."""
        return self.as_of is not None and self.statuses_synced and self.nodes_synced
