"""Small clients of the whole system's outside: Kubernetes' API and the fleet API. For tests and the demo."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from canopy.kube.connection import Connection, open_connection

CALL_SECONDS = 10.0
TOKEN_SECONDS, TOKEN_LOOK_SECONDS = 60.0, 0.05
DEVICE_API = "/apis/devices.kubeedge.io/v1beta1"
HOMES = {
    "Device": (DEVICE_API, "devices", True),
    "DeviceModel": (DEVICE_API, "devicemodels", True),
    "DeviceStatus": (DEVICE_API, "devicestatuses", True),
    "Lease": ("/apis/coordination.k8s.io/v1", "leases", True),
    "Event": ("/api/v1", "events", True),
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
}
"""Kind -> (API, plural, whether it is namespaced)."""

Json = dict[str, Any]


class Refused(RuntimeError):
    """The server answered with an error. `status` is HTTP's, `body` its JSON or text."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(
            f"{response.request.method} {response.url}: HTTP {response.status_code}: {response.text[:500]}"
        )
        self.status, self.body = response.status_code, _body(response)


class Client:
    """One HTTP server with a bearer token; JSON in and out. `async with` closes it."""

    def __init__(self, url: str, token: str, ca_file: Path | None = None) -> None:
        verify = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.AsyncClient(
            base_url=url, headers=headers, verify=verify, timeout=CALL_SECONDS, trust_env=False
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = "application/json",
        more: Mapping[str, str] | None = None,
    ) -> Any:
        """The answer's JSON. `more` are headers. Raises Refused, httpx.TransportError."""
        headers = {"Content-Type": content_type} if body is not None else {}
        response = await self.http.request(method, path, json=body, headers={**headers, **(more or {})})
        if response.is_error:
            raise Refused(response)
        return _body(response)


class _As(httpx.Auth):
    """Asks as the identity of a connection to Kubernetes, by the name that its certificate bears."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def async_auth_flow(self, request: httpx.Request) -> AsyncIterator[httpx.Request]:  # type: ignore[override]
        request.headers.update(await self._connection.credentials())
        if self._connection.server_name:
            request.extensions = {**request.extensions, "sni_hostname": self._connection.server_name}
        yield request


class KubeClient(Client):
    """Kubernetes' API, by kind; `kubeconfig` says where and as whom. Entering it raises NoCluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    async def __aenter__(self) -> Self:
        self._connection = way = await open_connection(self._kubeconfig)
        self.http = httpx.AsyncClient(
            base_url=way.host,
            auth=_As(way),
            verify=way.tls,
            proxy=way.proxy or None,
            timeout=CALL_SECONDS,
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        await self._connection.close()

    async def get(self, kind: str, name: str, namespace: str = "default") -> Json | None:
        """The object, None if there is none."""
        try:
            found: Json = await self.call("GET", path_of(kind, name, namespace))
        except Refused as e:
            if e.status == 404:
                return None
            raise
        return found

    async def all(self, kind: str, namespace: str = "") -> list[Json]:
        """All objects, of one namespace or of all."""
        found: list[Json] = (await self.call("GET", path_of(kind, "", namespace)))["items"]
        return found

    async def apply(self, manifests: str | Json) -> list[Json]:
        """Create or merge each document of a YAML text (or one object); returns them as they then are."""
        documents = [manifests] if isinstance(manifests, dict) else documents_of(manifests)
        return [await self._apply_one(document) for document in documents]

    async def patch(self, kind: str, name: str, change: Json, namespace: str = "default") -> Json:
        """A merge patch."""
        found: Json = await self.call("PATCH", path_of(kind, name, namespace), change, "application/merge-patch+json")
        return found

    async def delete(self, kind: str, name: str, namespace: str = "default") -> None:
        """Delete it; one that is gone is no error."""
        try:
            await self.call("DELETE", path_of(kind, name, namespace))
        except Refused as e:
            if e.status != 404:
                raise

    async def _apply_one(self, document: Json) -> Json:
        kind, metadata = document["kind"], document["metadata"]
        namespace = metadata.get("namespace", "default")
        if await self.get(kind, metadata["name"], namespace) is not None:
            return await self.patch(kind, metadata["name"], document, namespace)
        created: Json = await self.call("POST", path_of(kind, "", namespace), document)
        return created


class FleetClient(Client):
    """The fleet API: paths are below /api/v1."""

    async def get(self, path: str) -> Any:
        return await self.call("GET", path)

    async def post(self, path: str, body: Any) -> Any:
        return await self.call("POST", path, body)

    async def node_token(self, node: str, seconds: float = TOKEN_SECONDS) -> str:
        """With which a machine joins as `node`: as soon as there is a cloud that gives one. Raises Refused,
        httpx.TransportError."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return str((await self.post(f"nodes/{node}/token", {}))["token"])
            except (httpx.TransportError, Refused) as e:
                passes = not isinstance(e, Refused) or e.status >= httpx.codes.INTERNAL_SERVER_ERROR
                if not passes or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(TOKEN_LOOK_SECONDS)

    async def set_desired(self, namespace: str, name: str, desired: dict[str, str], traceparent: str = "") -> Any:
        """Set desired values of a device, in a trace if one is named."""
        more = {"traceparent": traceparent} if traceparent else None
        return await self.call("PUT", f"devices/{namespace}/{name}/desired", desired, more=more)


def path_of(kind: str, name: str = "", namespace: str = "default") -> str:
    """Where an object (or, without a name, the collection) is; a namespace of "" means all of them."""
    api, plural, namespaced = HOMES[kind]
    within = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{api}{within}/{plural}" + (f"/{name}" if name else "")


def documents_of(text: str) -> list[Json]:
    """The objects of a YAML text; empty documents are passed over."""
    found: Iterable[Any] = yaml.safe_load_all(text)
    return [document for document in found if document]


def _body(response: httpx.Response) -> Any:
    try:
        return response.json() if response.content else None
    except ValueError:
        return response.text
