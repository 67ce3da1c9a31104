"""What the verbs do: find the old object, let `objects.py` decide, stage the new one, wait until it is on the disk.

Called by `app.py` (requests) and `garbage.py`. Time and ids come from `Clock`, so that tests can fix them.
"""

import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from canopy.kubeserve import kinds, objects, patches
from canopy.kubeserve.definitions import custom_kind
from canopy.kubeserve.kinds import Kind
from canopy.kubeserve.selectors import Selector
from canopy.kubeserve.status import ApiError, Json, already_exists, bad_request, conflict, forbidden, not_found
from canopy.kubeserve.store import Store
from canopy.kubeserve.stored import Stored, encode

ALWAYS = ("default", "kube-system", "kube-public", "kube-node-lease")
"""Namespaces that are there from the start and stay."""
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
PATCH_TRIES = 5


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time and ids come from."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    uid: Callable[[], str] = lambda: str(uuid.uuid4())
    suffix: Callable[[], str] = lambda: "".join(secrets.choice(_LETTERS) for _ in range(5))

    def text(self) -> str:
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names; `name` is empty for a collection, `namespace` for all of them."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Write:
    """How a write is meant. `strict`: unknown fields are an error; `dry`: nothing is stored."""

    dry: bool = False
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """An object after a write, and the unknown fields that were left out."""

    object: Stored
    warnings: tuple[str, ...] = ()


@contextmanager
def _unknown_fields_first(kind: Kind, how: Write, warnings: list[str]) -> Iterator[None]:
    """Where they are errors, unknown fields come before whatever else is wrong with the object."""
    try:
        yield
    except ApiError:
        if not (how.strict and warnings):
            raise
    if how.strict and warnings:
        said = ", ".join(f'unknown field "{w}"' for w in warnings)
        where = f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
        raise bad_request(f"{where}: strict decoding error: {said}")


class Verbs:
    """Reads and writes on one store. Everything raises ApiError."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    # --- reading ------------------------------------------------------------------------------------------------------
    async def get(self, target: Target) -> Stored:
        await self._store.settled()
        return self._found(target)

    async def select(self, target: Target, selector: Selector) -> tuple[list[Stored], int]:
        """Matching objects, and the revision that they are as of."""
        await self._store.settled()
        state = self._store.state
        return [o for o in state.of(target.kind.id, target.namespace) if o.matches(selector)], state.revision

    def _found(self, target: Target) -> Stored:
        found = self._store.state.find(target.kind.id, (target.namespace, target.name))
        if found is None:
            raise not_found(target.kind.group, target.kind.plural, target.name)
        return found

    # --- writing ------------------------------------------------------------------------------------------------------
    async def create(self, target: Target, body: Any, how: Write) -> Outcome:
        kind, warnings = target.kind, list[str]()
        sent = objects.read(kind, target.namespace, body)
        self._open_namespace(target)
        ids = (self._clock.uid(), self._clock.suffix(), self._clock.text())
        with _unknown_fields_first(kind, how, warnings):
            new = objects.created(kind, sent, *ids, warnings)
        name = new["metadata"]["name"]
        if self._store.state.find(kind.id, (target.namespace, name)):
            raise already_exists(kind.group, kind.plural, name)
        return await self._put(kind, None, new, how, warnings)

    def _open_namespace(self, target: Target) -> None:
        if not target.kind.namespaced:
            return
        found = self._store.state.find(kinds.NAMESPACE.id, ("", target.namespace))
        if found is None:
            raise not_found("", "namespaces", target.namespace)
        if "deletionTimestamp" in found.json()["metadata"]:
            raise forbidden(
                f"unable to create new content in namespace {target.namespace} because it is being terminated"
            )

    async def update(self, target: Target, body: Any, how: Write) -> Outcome:
        sent = objects.read(target.kind, target.namespace, body)
        old = self._found(target)
        objects.requires_revision(target.kind, sent)
        return await self._change(target, old, sent, how)

    async def patch(self, target: Target, media_type: str, patch: Any, how: Write) -> Outcome:
        old = self._found(target)
        body = patches.patched(media_type, old.json(), patch, strategic=not target.kind.custom)
        objects.keeps_uid(target.kind, old.json(), body)
        return await self._change(target, old, objects.read(target.kind, target.namespace, body), how)

    async def _change(self, target: Target, old: Stored, sent: objects.Sent, how: Write) -> Outcome:
        kind, before, warnings = target.kind, old.json(), list[str]()
        decide = objects.status_updated if target.subresource else objects.updated
        with _unknown_fields_first(kind, how, warnings):
            new = decide(kind, before, sent, warnings)
        if objects.finished(new) and not how.dry:
            self._store.remove(old)
            await self._store.committed()
            return Outcome(old)
        return await self._put(kind, old, new, how, warnings)

    async def _put(self, kind: Kind, old: Stored | None, new: Json, how: Write, warnings: list[str]) -> Outcome:
        if how.dry:
            return Outcome(encode(kind.id, objects.stamped(new, old.revision if old else 0)), tuple(warnings))
        stored = self._store.put(kind, old, new)
        await self._store.committed()
        return Outcome(stored, tuple(warnings))

    # --- deleting -----------------------------------------------------------------------------------------------------
    async def delete(self, target: Target, options: Json, dry: bool = False) -> tuple[Stored, bool]:
        """The object's last form, and whether it is gone (finalizers may hold it)."""
        old = self._found(target)
        self._hold_to(target.kind, old, options)
        if target.kind.id == kinds.NAMESPACE.id and target.name in ALWAYS:
            raise forbidden(f'namespaces "{target.name}" is forbidden: this namespace may not be deleted')
        if dry:
            return old, True
        if options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents"):
            self._orphan(old.uid)
        result = self._delete(old)
        await self._store.committed()
        return result

    def _hold_to(self, kind: Kind, old: Stored, options: Json) -> None:
        wanted = options.get("preconditions") or {}
        objects.hold_to(kind, old.json(), wanted.get("resourceVersion") or "", wanted.get("uid") or "")

    async def delete_collection(self, target: Target, selector: Selector, dry: bool) -> list[Stored]:
        found = [o for o in self._store.state.of(target.kind.id, target.namespace) if o.matches(selector)]
        if target.kind.id == kinds.NAMESPACE.id:
            raise ApiError(405, "MethodNotAllowed", "namespaces are deleted one by one")
        if not dry:
            for old in found:
                self._delete(old)
            await self._store.committed()
        return found

    def _delete(self, old: Stored) -> tuple[Stored, bool]:
        """Stage a deletion with what goes along: a namespace's content, a CRD's objects."""
        if old.kind == kinds.NAMESPACE.id:
            return self._delete_namespace(old)
        if old.kind == kinds.CRD.id:
            self._delete_custom(old)
        marked = objects.deleting(old.json(), self._clock.text())
        if marked is None:
            return self._store.remove(old), True
        return self._mark(old, marked), False

    def _mark(self, old: Stored, marked: Json) -> Stored:
        if "deletionTimestamp" in old.json()["metadata"]:
            return old
        return self._store.put(self._kind(old), old, marked)

    def _kind(self, of: Stored) -> Kind:
        kind = self._store.state.kinds.find(*of.kind)
        if kind is None:
            raise conflict(*of.kind, of.key[1], "its kind is served no more")
        return kind

    def _delete_namespace(self, old: Stored) -> tuple[Stored, bool]:
        for inner in self._store.state.within(old.key[1]):
            self._delete(inner)
        if not self._store.state.within(old.key[1]) and not old.json()["metadata"].get("finalizers"):
            return self._store.remove(old), True
        body = old.json()
        body["metadata"].setdefault("deletionTimestamp", self._clock.text())
        return self._store.put(kinds.NAMESPACE, old, body | {"status": {"phase": "Terminating"}}), False

    def _delete_custom(self, crd: Stored) -> None:
        kind = custom_kind(crd.json())
        for inner in self._store.state.of(kind.id):
            self._store.remove(inner)

    def _orphan(self, uid: str) -> None:
        for item in self._store.state.owned_by(uid):
            self._store.put(self._kind(item), item, objects.without_owner(item.json(), uid))

    # --- for the collector --------------------------------------------------------------------------------------------
    def collect(self, item: Stored) -> None:
        """Delete an object that nobody owns any more, or a namespace that has become empty."""
        self._delete(item)
