"""Spans as OTLP: protobuf over HTTP to any collector. Best effort, in a thread of its own; failures are counted only.

Only CloudHub exports, and only where `otlp_endpoint` is set: the protobuf is loaded then.
"""

import asyncio
import logging
import urllib.request
from collections import deque
from collections.abc import Iterable
from typing import Any

from canopy.contracts.wire import SpanRecord

MOST_WAITING = 5_000
MOST_AT_ONCE = 500
SEND_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
PATH = "/v1/traces"
_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_ERROR = 2

log = logging.getLogger("canopy.telemetry")


def encoded(spans: Iterable[SpanRecord]) -> bytes:
    """An ExportTraceServiceRequest: one resource a unit and node."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    scopes: dict[tuple[str, str], Any] = {}
    for span in spans:
        place = (span.unit, span.node)
        if place not in scopes:
            resource = request.resource_spans.add()
            _attributes(resource.resource, {"service.name": span.unit, "service.namespace": "canopy"})
            _attributes(resource.resource, {"k8s.node.name": span.node} if span.node else {})
            scopes[place] = resource.scope_spans.add(scope={"name": "canopy"})
        _add(scopes[place], span)
    return bytes(request.SerializeToString())


def _add(scope: Any, span: SpanRecord) -> None:
    one = scope.spans.add(
        trace_id=bytes.fromhex(span.trace),
        span_id=bytes.fromhex(span.id),
        parent_span_id=bytes.fromhex(span.parent),
        name=span.name,
        kind=_KINDS.get(span.kind, 0),
        start_time_unix_nano=span.start,
        end_time_unix_nano=span.end,
    )
    _attributes(one, span.attributes)
    if span.error:
        one.status.code, one.status.message = _ERROR, span.error


def _attributes(holder: Any, attributes: dict[str, str]) -> None:
    for key, value in attributes.items():
        holder.attributes.add(key=key).value.string_value = value


class Exporter:
    """Sends what is put, until `run` is cancelled. `failed` counts spans that no collector took."""

    def __init__(self, endpoint: str) -> None:
        base = endpoint.rstrip("/")
        self._url = base if base.endswith(PATH) else base + PATH
        self._waiting: deque[SpanRecord] = deque(maxlen=MOST_WAITING)
        self.sent = self.failed = 0
        self._down = False

    def put(self, found: Iterable[SpanRecord]) -> None:
        """Never waits, never raises; the oldest give way."""
        for span in found:
            self.failed += len(self._waiting) == MOST_WAITING
            self._waiting.append(span)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SEND_SECONDS)
            while self._waiting:
                await self.send()

    async def send(self) -> None:
        """One request. What a collector does not take is lost: a trace is not worth a queue on a disk."""
        group = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST_AT_ONCE))]
        try:
            await asyncio.to_thread(self._post, encoded(group))
        except Exception as e:
            self.failed += len(group)
            if not self._down:
                log.warning("spans to %s: %s; more of this is only counted", self._url, e)
            self._down = True
            return
        self.sent += len(group)
        self._down = False

    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/x-protobuf"}
        request = urllib.request.Request(self._url, body, headers, method="POST")  # noqa: S310 - HttpUrl checked it
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            answer.read(1)
