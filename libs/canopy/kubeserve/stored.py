"""An object as it is held (bytes and what is asked of it often), and a change from one to the next. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from canopy.kubeserve.kinds import KindId
from canopy.kubeserve.selectors import Selector, reader
from canopy.kubeserve.status import Json

Key = tuple[str, str]
"""(namespace, name)."""
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


class _Owner(msgspec.Struct):
    uid: str = ""


class _Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str
    resource_version: str
    namespace: str = ""
    labels: dict[str, str] = {}
    owner_references: list[_Owner] = []


class _Head(msgspec.Struct):
    metadata: _Meta


_HEAD = msgspec.json.Decoder(_Head)
_BODY = msgspec.json.Decoder(dict)


@dataclass(frozen=True, slots=True)
class Stored:
    """One object. `revision` is its resourceVersion, `owners` the uids that it goes with."""

    kind: KindId
    key: Key
    uid: str
    revision: int
    labels: Mapping[str, str]
    owners: tuple[str, ...]
    body: bytes

    def json(self) -> Json:
        body: Json = _BODY.decode(self.body)
        return body

    def matches(self, selector: Selector) -> bool:
        if selector.everything:
            return True
        return selector.matches(self.labels, reader(self.json()) if selector.fields else str)


def stored(kind: KindId, body: bytes) -> Stored:
    """The held form of an encoded, stamped object."""
    meta = _HEAD.decode(body).metadata
    owners = tuple(o.uid for o in meta.owner_references)
    return Stored(kind, (meta.namespace, meta.name), meta.uid, int(meta.resource_version), meta.labels, owners, body)


def encode(kind: KindId, body: Json) -> Stored:
    return stored(kind, msgspec.json.encode(body))


@dataclass(frozen=True, slots=True)
class Change:
    """`new` is the object after it; of a deletion the last form, stamped with the deletion's revision."""

    type: ChangeType
    new: Stored
    old: Stored | None

    def seen_by(self, selector: Selector) -> ChangeType | None:
        """What this change is to one who only sees what matches: an object may come into view or leave it."""
        after = self.type != "DELETED" and self.new.matches(selector)
        before = self.old is not None and self.old.matches(selector)
        if after:
            return "MODIFIED" if before else "ADDED"
        return "DELETED" if before else None
