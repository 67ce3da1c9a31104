"""The fleet API as a client: what it refuses becomes a Failure that names the field and what would be right."""

import json
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import httpx

from canopy.cli.failure import FAILED, NO_CONNECTION, NOT_FOUND, Failure
from canopy.cli.target import TOKEN_VARIABLE, Target

CALL_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""The server says something on a watch (a comment at least) more often than that."""


class FleetApi:
    """`with FleetApi(target) as api:`. Every call raises Failure."""

    def __init__(self, target: Target, timeout_seconds: float = CALL_SECONDS) -> None:
        headers = {"Authorization": f"Bearer {target.token}"} if target.token else {}
        self._target = target
        tls = target.url.startswith("https://")  # to read all the world's roots for nothing takes 20 ms
        self._client = httpx.Client(
            base_url=f"{target.url}/api/v1", headers=headers, timeout=timeout_seconds, trust_env=False, verify=tls
        )

    def __enter__(self) -> "FleetApi":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **params: str) -> Any:
        """The JSON at `path`; empty parameters are left out."""
        return self._call("GET", path, params={k: v for k, v in params.items() if v})

    def put(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("PUT", path, json=body)

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._call("POST", path, json=body)

    def delete(self, path: str, **params: str) -> Any:
        return self._call("DELETE", path, params={k: v for k, v in params.items() if v})

    def watch(self, path: str, **params: str) -> Iterator[tuple[str, Any]]:
        """Server-sent events as (event, JSON), until the server ends them."""
        timeout = httpx.Timeout(CALL_SECONDS, read=SILENCE_SECONDS)
        given = {k: v for k, v in params.items() if v}
        try:
            with self._client.stream("GET", path, params=given, timeout=timeout) as response:
                if response.is_error:
                    response.read()
                    raise refused(response)
                yield from events(response.iter_lines())
        except httpx.TransportError as e:
            raise self._unreachable(e) from None

    def _call(self, method: str, path: str, **options: Any) -> Any:
        try:
            response = self._client.request(method, path, **options)
        except httpx.TransportError as e:
            raise self._unreachable(e) from None
        if response.is_error:
            raise refused(response)
        return _json(response)

    def _unreachable(self, e: httpx.TransportError) -> Failure:
        return Failure(f"no connection to the fleet API at {self._target.url}: {e or type(e).__name__}", NO_CONNECTION)


def refused(response: httpx.Response) -> Failure:
    """What the server's error says; the field is named even if its reason does not."""
    code = NOT_FOUND if response.status_code == 404 else FAILED
    error = _error(response)
    reason, field = str(error.get("reason") or f"HTTP {response.status_code}"), str(error.get("field") or "")
    if response.status_code == 401:
        return Failure(f"{reason} (say --api-token, or set {TOKEN_VARIABLE})")
    return Failure(f"{field}: {reason}" if field and field not in reason else reason, code)


def _error(response: httpx.Response) -> Mapping[str, Any]:
    try:
        found = response.json()
        return found["error"] if isinstance(found["error"], dict) else {}
    except (ValueError, KeyError, TypeError):
        return {"reason": f"HTTP {response.status_code} from {response.url}: this does not look like the fleet API"}


def _json(response: httpx.Response) -> Any:
    try:
        return response.json() if response.content else None
    except ValueError:
        raise Failure(f"{response.url} did not answer with JSON: is it the fleet API?") from None


def events(lines: Iterator[str]) -> Iterator[tuple[str, Any]]:
    """Server-sent events from their lines; comments are passed over."""
    event, data = "message", list[str]()
    for text in lines:
        if not text:
            if data:
                yield event, json.loads("\n".join(data))
            event, data = "message", []
        elif text.startswith("event:"):
            event = text[6:].strip()
        elif text.startswith("data:"):
            data.append(text[5:].removeprefix(" "))
