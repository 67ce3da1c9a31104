"""OTLP as a collector receives it: real bytes on a real HTTP server."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from canopy.contracts.wire import SpanRecord
from canopy.runtime.telemetry.otlp import MOST_WAITING, Exporter


class Collector(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = 200
        self.got: list[tuple[str, str, ExportTraceServiceRequest]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        self.server.got.append((self.path, kind, ExportTraceServiceRequest.FromString(body)))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def span(id: str, parent: str = "", unit: str = "devicetwin", node: str = "edge-1", error: str = "") -> SpanRecord:
    return SpanRecord(
        unit=unit,
        node=node,
        name="twin changed",
        kind="consumer",
        trace="ab" * 16,
        id=id * 16,
        parent=parent * 16,
        start=1_000,
        end=2_000,
        attributes={"device": "default/light"},
        error=error,
    )


async def test_a_collector_receives_the_spans_by_unit_and_node(collector: Collector) -> None:
    exporter = Exporter(collector.url)
    exporter.put([span("1"), span("2", "1", error="no"), span("3", unit="cloudhub", node="")])
    await exporter.send()
    [(path, kind, request)] = collector.got
    assert (path, kind) == ("/v1/traces", "application/x-protobuf")
    edge, cloud = request.resource_spans
    named = {a.key: a.value.string_value for a in edge.resource.attributes}
    assert named == {"service.name": "devicetwin", "service.namespace": "canopy", "k8s.node.name": "edge-1"}
    first, second = edge.scope_spans[0].spans
    assert (first.trace_id.hex(), first.span_id.hex(), first.parent_span_id) == ("ab" * 16, "1" * 16, b"")
    assert second.parent_span_id == first.span_id and (second.status.code, second.status.message) == (2, "no")
    assert (first.name, first.kind, first.start_time_unix_nano, first.end_time_unix_nano) == (
        "twin changed",
        5,
        1000,
        2000,
    )
    assert first.attributes[0].value.string_value == "default/light"
    assert [s.span_id.hex() for s in cloud.scope_spans[0].spans] == ["3" * 16] and exporter.sent == 3


async def test_a_collector_that_refuses_or_is_away_hurts_nothing_and_is_counted(collector: Collector) -> None:
    exporter = Exporter(f"{collector.url}/v1/traces")
    collector.status = 503
    exporter.put([span("1"), span("2")])
    await exporter.send()
    assert (exporter.sent, exporter.failed) == (0, 2) and collector.got[0][0] == "/v1/traces"
    away = Exporter("http://127.0.0.1:1")
    away.put([span("1")])
    await away.send()
    assert away.failed == 1


def test_what_nobody_takes_is_bounded() -> None:
    exporter = Exporter("http://127.0.0.1:1")
    exporter.put(span("1") for _ in range(MOST_WAITING + 3))
    assert exporter.failed == 3
