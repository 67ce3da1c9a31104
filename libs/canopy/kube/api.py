"""What the cloud units want of Kubernetes: the protocol `Kube`, and the values that it gives back.

Objects go in and come out as JSON bytes; `canopy.contracts.devices` or a caller's own small msgspec Struct reads them.
`client.connect` makes the real one. Errors are those of `errors.py`; every call has a timeout (Unavailable).
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from canopy.kube.resource import Resource

PatchKind = Literal["merge", "json"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects of a collection as of one revision."""

    items: tuple[bytes, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change seen by a watch; a BOOKMARK's object holds only metadata.resourceVersion."""

    type: EventType
    object: bytes


class Kube(Protocol):
    """One cluster, one identity. `namespace` is "" for what has none."""

    async def get(self, resource: Resource, namespace: str, name: str) -> bytes: ...

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Listed:
        """Everything (in all namespaces when `namespace` is empty), fetched in pages of one revision."""

    def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        revision: int,
        timeout_seconds: int,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Changes after `revision`, with bookmarks. The iteration ends when the server closes, at the latest after
        `timeout_seconds`; a server that says nothing for somewhat longer than that is Unavailable."""

    async def create(self, resource: Resource, namespace: str, body: bytes) -> bytes: ...

    async def update(
        self, resource: Resource, namespace: str, name: str, body: bytes, *, subresource: str = ""
    ) -> bytes: ...

    async def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: bytes,
        *,
        subresource: str = "",
        kind: PatchKind = "merge",
    ) -> bytes:
        """A merge patch may hold metadata.resourceVersion, then another one there is a Conflict."""

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> None:
        """With `uid` or `resource_version`: only that very object, else Conflict."""

    def with_token(self, token: str) -> "Kube":
        """The same cluster as the bearer of `token`; shares connections, needs no closing."""

    async def close(self) -> None: ...
