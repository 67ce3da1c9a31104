"""The client against servers that misbehave. They are a few bytes on a loopback socket, so this is quick."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from canopy.kube.api import Kube
from canopy.kube.client import Timeouts, connect
from canopy.kube.errors import (
    Forbidden,
    Gone,
    Invalid,
    KubeError,
    NotFound,
    Refused,
    Unauthorized,
    Unavailable,
    error_of,
)
from canopy.kube.resource import DEVICES, NODES, Resource

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@asynccontextmanager
async def answering(answer: bytes, tmp_path: Path, keep_open: bool = False) -> AsyncIterator[Kube]:
    """A client of who says `answer`; it soon has enough of who says no more and does not hang up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if keep_open:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    named = {"clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}], "users": []}
    context = {"contexts": [{"name": "x", "context": {"cluster": "c", "user": ""}}], "current-context": "x"}
    (tmp_path / "config").write_text(json.dumps(named | context))
    kube = await connect(tmp_path / "config", timeouts=Timeouts(0.3, 0.2) if keep_open else None)
    try:
        yield kube
    finally:
        await kube.close()
        server.close()


async def _watched(kube: Kube, timeout_seconds: int = 0) -> list[str]:
    async with kube.watch(DEVICES, revision=1, timeout_seconds=timeout_seconds) as events:
        return [e.type async for e in events]


async def test_a_server_that_never_answers_is_unavailable(tmp_path: Path) -> None:
    async with answering(b"", tmp_path, keep_open=True) as kube:
        with pytest.raises(Unavailable, match="in time"):
            await kube.get(NODES, "", "n")


async def test_a_watch_that_hangs_is_noticed(tmp_path: Path) -> None:
    async with answering(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", tmp_path, keep_open=True) as kube:
        with pytest.raises(Unavailable):
            await _watched(kube)


async def test_a_watch_that_breaks_off_within_a_line_is_unavailable(tmp_path: Path) -> None:
    async with answering(HEAD + b'Content-Length: 500\r\n\r\n{"type":"ADDED","obj', tmp_path) as kube:
        with pytest.raises(Unavailable):
            await _watched(kube)


async def test_an_error_event_is_raised(tmp_path: Path) -> None:
    line = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}\n'
    async with answering(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(line), line), tmp_path) as kube:
        with pytest.raises(Gone, match="too old"):
            await _watched(kube)


async def test_a_page_of_a_proxy_is_no_answer(tmp_path: Path) -> None:
    async with answering(HEAD + b"Content-Length: 15\r\n\r\n<html>hi</html>", tmp_path) as kube:
        with pytest.raises(Unavailable, match="proxy"):
            await kube.list(DEVICES)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../../nodes/x"])
async def test_a_name_cannot_lead_elsewhere(tmp_path: Path, name: str) -> None:
    async with answering(b"", tmp_path) as kube:
        with pytest.raises(NotFound):
            await kube.get(DEVICES, "default", name)


@pytest.mark.parametrize("token", ["", "a\r\nb", "ä"])
async def test_a_token_that_no_header_can_hold_is_unauthorized(tmp_path: Path, token: str) -> None:
    async with answering(b"", tmp_path) as kube:
        with pytest.raises(Unauthorized):
            kube.with_token(token)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        *((400, Refused), (401, Unauthorized), (403, Forbidden), (404, NotFound), (410, Gone), (422, Invalid)),
        *((429, Unavailable), (500, Unavailable), (503, Unavailable), (418, Refused)),
    ],
)
def test_each_code_has_its_error(code: int, kind: type[KubeError]) -> None:
    assert type(error_of(code, b"<html>")) is kind


def test_an_error_holds_what_kubernetes_said() -> None:
    cause = {"field": "spec.x", "message": "bad", "reason": "FieldValueInvalid"}
    status = {"message": "no", "reason": "Invalid", "details": {"causes": [cause], "retryAfterSeconds": 3}}
    error = error_of(422, json.dumps(status).encode())
    assert str(error) == "no" and error.reason == "Invalid" and error.causes[0].field == "spec.x"
    busy = error_of(429, json.dumps(status).encode())
    assert isinstance(busy, Unavailable) and busy.retry_after_seconds == 3


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: DEVICES.path(), "/apis/devices.kubeedge.io/v1beta1/devices"),
        (lambda: DEVICES.path("d", "x", "status"), "/apis/devices.kubeedge.io/v1beta1/namespaces/d/devices/x/status"),
        (lambda: NODES.path("ignored", "n"), "/api/v1/nodes/n"),
        (lambda: Resource("", "v1", "events").path("d"), "/api/v1/namespaces/d/events"),
    ],
)
def test_a_resource_knows_its_paths(make: Callable[[], str], path: str) -> None:
    assert make() == path
