"""What a unit says of its health, and the small HTTP server that tells it: /healthz, /readyz, /metrics.

Units `set` their checks; whoever runs a process starts one HealthServer for all its units. Only asyncio: edge images
hold no web framework.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType

from canopy.runtime.metrics import Counter, Gauge, Metrics

__all__ = ["Check", "Counter", "Gauge", "Health", "HealthServer", "Metrics"]

HEAD_BYTES = 8_192
REQUEST_TIMEOUT_SECONDS = 5.0
MOST_CONNECTIONS = 32
DETAIL_CHARACTERS = 500
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout"}
REASONS |= {431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable"}

log = logging.getLogger("canopy.health")


@dataclass(frozen=True, slots=True)
class Check:
    unit: str
    check: str
    ok: bool
    detail: str


class Health:
    """The checks of one unit, by name. A unit that has said nothing yet is not ready."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self._checks: dict[str, Check] = {}
        self._facts: dict[str, Callable[[], str]] = {}

    def tell(self, fact: str, read: Callable[[], str]) -> None:
        """A word about this unit that others may want to know, such as its protocol; `read` must be quick."""
        self._facts[fact] = read

    @property
    def facts(self) -> dict[str, str]:
        return {name: read() for name, read in self._facts.items()}

    def set(self, check: str, ok: bool, detail: str = "") -> None:
        self._checks[check] = Check(self.unit, check, ok, detail[:DETAIL_CHARACTERS])

    @property
    def checks(self) -> tuple[Check, ...]:
        return tuple(self._checks.values())

    @property
    def ready(self) -> bool:
        return bool(self._checks) and all(check.ok for check in self._checks.values())


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


class HealthServer:
    """`async with HealthServer([health], metrics, port=0) as server:` listens on `server.port` until the block ends."""

    def __init__(
        self,
        healths: Sequence[Health],
        metrics: Metrics,
        host: str = "127.0.0.1",
        port: int = 0,
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
    ) -> None:
        self.host = host
        self.port = port
        self._healths = healths
        self._metrics = metrics
        self._timeout_seconds = timeout_seconds
        self._talking: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "HealthServer":
        self._server = await asyncio.start_server(self._talk, self.host, self.port, limit=HEAD_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._talking) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._talking.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(2 * self._timeout_seconds):  # once for the request, once for the answer
                    await self._serve(reader, writer)
        finally:
            self._talking.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = await self._answered(reader)
        writer.write(_encoded(answer))
        await writer.drain()

    async def _answered(self, reader: asyncio.StreamReader) -> _Answer:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _Answer(431, f"a request head is at most {HEAD_BYTES} bytes\n")
        except TimeoutError:
            return _Answer(408, f"a request comes within {self._timeout_seconds:g} s\n")
        return self._routed(head.split(b"\r\n", 1)[0].decode("latin-1"))

    def _routed(self, request_line: str) -> _Answer:
        parts = request_line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return _Answer(400, "this is HTTP/1.1: GET /healthz HTTP/1.1\n")
        if parts[0] != "GET":
            return _Answer(405, "only GET\n")
        return self._page(parts[1].split("?", 1)[0])

    def _page(self, path: str) -> _Answer:
        if path == "/healthz":
            return _Answer(200, "ok\n")
        if path == "/readyz":
            return self._readiness()
        if path == "/metrics":
            return self._exposition()
        return _Answer(404, "there are /healthz, /readyz and /metrics\n")

    def _readiness(self) -> _Answer:
        ready = all(health.ready for health in self._healths)
        checks = [asdict(check) for health in self._healths for check in health.checks]
        silent = [health.unit for health in self._healths if not health.checks]
        body = json.dumps({"ready": ready, "checks": checks, "silent": silent}, ensure_ascii=False) + "\n"
        return _Answer(200 if ready else 503, body, "application/json")

    def _exposition(self) -> _Answer:
        try:
            return _Answer(200, self._metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        except Exception:
            log.exception("a metric could not be read")
            return _Answer(500, "a metric could not be read\n")


def _encoded(answer: _Answer) -> bytes:
    body = answer.body.encode()
    head = (
        f"HTTP/1.1 {answer.status} {REASONS[answer.status]}\r\nContent-Type: {answer.kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
