"""Takes spans by OTLP over HTTP (POST /v1/traces) and gives them back as JSON (GET /spans). Runs in a container of the
cloudhub image, which holds opentelemetry-proto; it knows nothing of Canopy."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PORT = 4318
MOST_SPANS = 100_000
SPANS: list[dict[str, str]] = []


def spans_of(request: ExportTraceServiceRequest) -> list[dict[str, str]]:
    found = []
    for resource in request.resource_spans:
        service = next((a.value.string_value for a in resource.resource.attributes if a.key == "service.name"), "")
        for scope in resource.scope_spans:
            for span in scope.spans:
                ids = {"trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex()}
                found.append({**ids, "name": span.name, "service": service})
    return found


class Handler(BaseHTTPRequestHandler):
    """Both verbs."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        SPANS.extend(spans_of(ExportTraceServiceRequest.FromString(body)))
        del SPANS[:-MOST_SPANS]
        self._answer(b"")

    def do_GET(self) -> None:
        self._answer(json.dumps(SPANS).encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Silent: what went wrong would be answered."""


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()
