"""All objects in memory, with the indexes that the verbs and the garbage collection need. Synchronous, no I/O.

Owned by `store.py`, which makes it from the rows and applies each change before it is committed.
"""

from collections.abc import Iterable

from canopy.kubeserve import kinds
from canopy.kubeserve.definitions import custom_kind
from canopy.kubeserve.kinds import KindId, Kinds
from canopy.kubeserve.stored import Change, Key, Stored


class State:
    """What is there now, committed or about to be."""

    def __init__(self, revision: int, objects: Iterable[Stored]) -> None:
        self.revision = revision
        self.kinds = Kinds()
        self._objects: dict[KindId, dict[Key, Stored]] = {}
        self._uids: dict[str, Stored] = {}
        self._owned: dict[str, set[str]] = {}
        for item in objects:
            self._put(item)
        self._serve_crds()

    def find(self, kind: KindId, key: Key) -> Stored | None:
        return self._objects.get(kind, {}).get(key)

    def by_uid(self, uid: str) -> Stored | None:
        return self._uids.get(uid)

    def of(self, kind: KindId, namespace: str = "") -> list[Stored]:
        """A kind's objects by namespace and name; in all namespaces when that is empty."""
        found = self._objects.get(kind, {})
        return [found[k] for k in sorted(k for k in found if not namespace or k[0] == namespace)]

    def within(self, namespace: str) -> list[Stored]:
        """Everything inside a namespace."""
        return [o for found in self._objects.values() for k, o in found.items() if k[0] == namespace]

    def owned_by(self, uid: str) -> list[Stored]:
        return [self._uids[u] for u in self._owned.get(uid, ())]

    def everything(self) -> list[Stored]:
        return list(self._uids.values())

    def apply(self, change: Change) -> None:
        self.revision = change.new.revision
        if change.old is not None:
            self._remove(change.old)
        if change.type != "DELETED":
            self._put(change.new)
        if change.new.kind == kinds.CRD.id:
            self._serve_crds()

    def _serve_crds(self) -> None:
        crds = (crd.json() for crd in self.of(kinds.CRD.id))
        self.kinds.set_custom(custom_kind(crd) for crd in crds if "deletionTimestamp" not in crd["metadata"])

    def _put(self, item: Stored) -> None:
        self._objects.setdefault(item.kind, {})[item.key] = item
        self._uids[item.uid] = item
        for owner in item.owners:
            self._owned.setdefault(owner, set()).add(item.uid)

    def _remove(self, item: Stored) -> None:
        self._objects[item.kind].pop(item.key, None)
        self._uids.pop(item.uid, None)
        for owner in item.owners:
            owned = self._owned.get(owner, set())
            owned.discard(item.uid)
            if not owned:
                self._owned.pop(owner, None)
