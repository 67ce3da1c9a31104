"""The sets: which Devices and DeviceModels each node should have, kept as objects come and go. Pure.

A node should have the Devices whose `spec.nodeName` it is, and each DeviceModel that such a Device names. Every change
costs what it touches: no set is built anew, and the hash of each is kept. Every replica holds one Placement.
"""

from collections.abc import Iterable, Iterator

from canopy.contracts.devices import DEVICE, MODEL
from canopy.contracts.wire import Entry, Key, Name, Put
from canopy.devicecontroller.objects import Seen
from canopy.sync.sets import HashedSet

Touched = tuple[str, Key]
"""A node, and the key of its set that is other than before."""


class Placement:
    """Devices and models by name, and the set of each node. `put` and `drop` say which nodes' sets are touched."""

    def __init__(self) -> None:
        self.devices: dict[Name, Seen] = {}
        self.models: dict[Name, Seen] = {}
        self._sets: dict[str, HashedSet[Entry]] = {}
        self._users: dict[Name, dict[str, int]] = {}  # model -> node -> how many of its devices name it

    def set_of(self, node: str) -> HashedSet[Entry]:
        """What `node` should have; not to be changed by the caller."""
        found = self._sets.get(node)
        return found if found is not None else HashedSet()

    def load(self, key: Key) -> Put:
        """An object of some set. Raises KeyError if it is in none."""
        found = self._objects(key[0])[key[1:]]
        if found.put is None:
            raise KeyError(key)
        return found.put

    def nodes(self) -> Iterable[str]:
        """The nodes that should have anything."""
        return self._sets.keys()

    @property
    def size(self) -> int:
        """How many nodes those are."""
        return len(self._sets)

    def devices_of(self, model: Name) -> Iterator[Seen]:
        """The Devices that name a DeviceModel. Looks at all of them: models come and go rarely."""
        return (d for d in list(self.devices.values()) if (d.namespace, d.model) == model)

    def put(self, seen: Seen) -> set[Touched]:
        """Take an object that is new or changed."""
        return self._put_device(seen) if seen.kind == DEVICE else self._put_model(seen)

    def drop(self, kind: str, name: Name) -> set[Touched]:
        """Forget an object that is no more."""
        old = self._objects(kind).pop(name, None)
        if old is None:
            return set()
        return self._unplace(old) if kind == DEVICE else self._share(name, None)

    def _objects(self, kind: str) -> dict[Name, Seen]:
        return self.devices if kind == DEVICE else self.models

    def _put_device(self, seen: Seen) -> set[Touched]:
        """The new place first: a model that both places share stays where it is."""
        old, self.devices[seen.id] = self.devices.get(seen.id), seen
        touched = self._use(seen, 1) | self._enter(seen.node, seen.key, seen.put)
        if old is not None:
            touched |= self._use(old, -1)
            if old.node != seen.node:
                touched |= self._enter(old.node, old.key, None)
        return touched

    def _unplace(self, old: Seen) -> set[Touched]:
        return self._use(old, -1) | self._enter(old.node, old.key, None)

    def _use(self, device: Seen, count: int) -> set[Touched]:
        """Count a use of the device's model by its node; the first brings the model there, the last takes it away."""
        if not device.node or not device.model:
            return set()
        name, node = (device.namespace, device.model), device.node
        users = self._users.setdefault(name, {})
        before, users[node] = users.get(node, 0), users.get(node, 0) + count
        if users[node] and before:
            return set()
        model = self.models.get(name) if users[node] else None
        if not users[node]:
            del users[node]
        if not users:
            del self._users[name]
        return self._enter(node, (MODEL, *name), model.put if model else None)

    def _put_model(self, seen: Seen) -> set[Touched]:
        self.models[seen.id] = seen
        return self._share(seen.id, seen.put)

    def _share(self, name: Name, put: Put | None) -> set[Touched]:
        touched: set[Touched] = set()
        for node in self._users.get(name, ()):
            touched |= self._enter(node, (MODEL, *name), put)
        return touched

    def _enter(self, node: str, key: Key, put: Put | None) -> set[Touched]:
        """Make the node's set hold this at `key`, or nothing; says whether that changed it."""
        if not node:
            return set()
        entries = self._sets.setdefault(node, HashedSet())
        changed = entries.get(key) != (put.entry if put else None)
        if changed and put:
            entries.put(put.entry)
        elif changed:
            entries.drop(key)
        if not len(entries):
            del self._sets[node]
        return {(node, key)} if changed else set()
