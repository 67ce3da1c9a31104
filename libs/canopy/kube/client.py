"""`Kube` over HTTP: kubernetes.aio's connection pool, raw bytes instead of its models.

`connect` is called by the cloud units' `unit.py` and by the tests.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec

from canopy.kube.api import Event, EventType, Kube, Listed, PatchKind
from canopy.kube.connection import Connection, Pod, open_connection
from canopy.kube.errors import Unauthorized, Unavailable, error_of, error_of_event
from canopy.kube.resource import Resource

D = TypeVar("D")

CONNECT_TIMEOUT_SECONDS = 5.0
PAGE_LIMIT_OBJECTS = 500
LINE_LIMIT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a call may take, and how much longer than asked a watch may stay open before it counts as hung."""

    call_seconds: float = 10.0
    watch_grace_seconds: float = 5.0


async def connect(
    kubeconfig: Path | None, context: str = "", *, timeouts: Timeouts | None = None, pod: Pod | None = None
) -> Kube:
    """The cluster of a kubeconfig file (and one of its contexts), or (None) of the pod that this runs in. Does not call
    it yet.

    Raises NoCluster. Call `close` at the end.
    """
    return KubeClient(await open_connection(kubeconfig, context, pod=pod), timeouts or Timeouts())


class _ListMeta(msgspec.Struct, rename={"resource_version": "resourceVersion", "more": "continue"}):
    resource_version: str
    more: str = ""


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


_LIST = msgspec.json.Decoder(_List)
_EVENT = msgspec.json.Decoder(_Event)
_PATCH_TYPES: dict[PatchKind, str] = {"merge": "application/merge-patch+json", "json": "application/json-patch+json"}


@dataclass(frozen=True)
class KubeClient:
    """See `api.Kube`."""

    _connection: Connection
    _timeouts: Timeouts
    _token: str = field(default="", repr=False)

    def with_token(self, token: str) -> Kube:
        if not token or not token.isascii() or not token.isprintable():
            raise Unauthorized("the bearer token is empty or holds what a header cannot", 401, "Unauthorized")
        return KubeClient(self._connection, self._timeouts, token)

    async def close(self) -> None:
        await self._connection.close()

    async def get(self, resource: Resource, namespace: str, name: str) -> bytes:
        return await self._call("GET", resource.path(namespace, _one(name)))

    async def list(
        self, resource: Resource, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Listed:
        query = _query(labelSelector=label_selector, fieldSelector=field_selector, limit=PAGE_LIMIT_OBJECTS)
        items: list[bytes] = []
        while True:
            page = _decoded(_LIST, await self._call("GET", resource.path(namespace), query))
            items += map(bytes, page.items)
            if not page.metadata.more:
                return Listed(tuple(items), int(page.metadata.resource_version))
            query["continue"] = page.metadata.more

    async def create(self, resource: Resource, namespace: str, body: bytes) -> bytes:
        return await self._call("POST", resource.path(namespace), body=body)

    async def update(
        self, resource: Resource, namespace: str, name: str, body: bytes, *, subresource: str = ""
    ) -> bytes:
        return await self._call("PUT", resource.path(namespace, _one(name), subresource), body=body)

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
        path = resource.path(namespace, _one(name), subresource)
        return await self._call("PATCH", path, body=body, media_type=_PATCH_TYPES[kind])

    async def delete(
        self, resource: Resource, namespace: str, name: str, *, uid: str = "", resource_version: str = ""
    ) -> None:
        wanted = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        options = {"apiVersion": "v1", "kind": "DeleteOptions"} | ({"preconditions": wanted} if wanted else {})
        await self._call("DELETE", resource.path(namespace, _one(name)), body=msgspec.json.encode(options))

    # --- one call -----------------------------------------------------------------------------------------------------
    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        media_type: str = "application/json",
    ) -> bytes:
        timeout = aiohttp.ClientTimeout(total=self._timeouts.call_seconds, sock_connect=CONNECT_TIMEOUT_SECONDS)
        async with self._request(method, path, query or {}, timeout, body, media_type) as response:
            content = await response.read()
            if response.status >= 400:
                raise error_of(response.status, content)
            return content

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: bytes | None = None,
        media_type: str = "application/json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"{self._connection.host}{quote(path, safe='/')}" + (f"?{urlencode(query)}" if query else "")
        headers = {"accept": "application/json"} | ({"content-type": media_type} if body is not None else {})
        headers |= {"authorization": f"Bearer {self._token}"} if self._token else await self._connection.credentials()
        try:
            async with self._connection.session().request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                **self._connection.extra,
            ) as response:
                yield response
        except TimeoutError as error:
            raise Unavailable(f"Kubernetes did not answer {method} {path} in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"Kubernetes cannot be reached ({method} {path}): {error}") from error

    # --- watch --------------------------------------------------------------------------------------------------------
    @asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str = "",
        *,
        revision: int,
        timeout_seconds: int,
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[AsyncIterator[Event]]:
        query = _query(
            watch="true",
            allowWatchBookmarks="true",
            resourceVersion=revision,
            timeoutSeconds=timeout_seconds,
            labelSelector=label_selector,
            fieldSelector=field_selector,
        )
        whole = timeout_seconds + self._timeouts.watch_grace_seconds
        timeout = aiohttp.ClientTimeout(total=whole, sock_connect=CONNECT_TIMEOUT_SECONDS)
        async with self._request("GET", resource.path(namespace), query, timeout) as response:
            if response.status >= 400:
                raise error_of(response.status, await response.read())
            yield _events(response.content)


def _one(name: str) -> str:
    """A name that cannot turn the path into another one."""
    if not name or "/" in name or name in (".", ".."):
        raise error_of(404, b'{"message":"an object\'s name must be given, without slashes","reason":"NotFound"}')
    return name


def _query(**parameters: str | int) -> dict[str, str]:
    return {k: str(v) for k, v in parameters.items() if v != ""}


def _decoded(decoder: msgspec.json.Decoder[D], content: bytes) -> D:
    try:
        return decoder.decode(content)
    except msgspec.DecodeError as error:
        raise Unavailable(f"what came is no answer of Kubernetes ({error}): is a proxy between?") from error


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    async for line in _lines(content):
        event = _decoded(_EVENT, line)
        if event.type == "ERROR":
            raise error_of_event(bytes(event.object))
        if event.type in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
            known: EventType = event.type  # type: ignore[assignment]
            yield Event(known, bytes(event.object))


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines. An end in the middle of one is dropped: the watch goes on from the event before it."""
    rest = bytearray()
    async for piece in content.iter_any():
        rest += piece
        if len(rest) > LINE_LIMIT_BYTES:
            raise Unavailable(f"an event of a watch has more than {LINE_LIMIT_BYTES} bytes")
        *lines, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in lines:
            if line.strip():
                yield line
