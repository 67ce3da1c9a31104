"""A command line called in this process, and a small fleet API for it to speak to."""

import json
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from canopy.cli.main import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


Canopy = Callable[..., Ended]


@pytest.fixture
def canopy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any) -> Canopy:
    """`canopy("device", "list")` as the script would run it, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("CANOPY_API_URL", "CANOPY_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["canopy", *arguments])
        code = 0
        try:
            main()
        except SystemExit as e:
            code = int(e.code or 0)
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return call


@dataclass
class Fleet:
    """Answers by (method, path with query); what was asked is kept."""

    url: str = ""
    token: str = "secret"
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)

    def options(self) -> tuple[str, ...]:
        return ("--api-url", self.url, "--api-token", self.token)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    here = Fleet()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            here.asked.append((self.command, self.path, body))
            status, found = here.answers.get((self.command, self.path), (404, error(404, f"no {self.path}")))
            if self.headers.get("Authorization") != f"Bearer {here.token}":
                status, found = 401, error(401, "the token is not right")
            data = found if isinstance(found, bytes) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = _answer

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    here.url = f"http://127.0.0.1:{server.server_address[1]}"
    yield here
    server.shutdown()
    server.server_close()
    thread.join()


def error(code: int, reason: str, field_name: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "reason": reason} | ({"field": field_name} if field_name else {})}
