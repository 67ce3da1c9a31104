"""A command line called in this process or started as one, and a small fleet API for it to speak to."""

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from canopy.cli.main import main


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


STORY_SECONDS = 90
MARK = "CANOPY_TEST_MARK"[7:]  # without the prefix: variables that begin with it are not handed on to units

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

        do_GET = do_PUT = do_POST = do_DELETE = _answer

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


@dataclass
class Place:
    """Folders of its own for everything that a program may write to, and a mark that all its children inherit."""

    root: Path
    mark: str

    def __post_init__(self) -> None:
        for name in ("home", "tmp", "work"):
            (self.root / name).mkdir()

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        environment = {**os.environ, "HOME": str(self.root / "home"), "TMPDIR": str(self.root / "tmp"), MARK: self.mark}
        command = [sys.executable, "-m", "canopy.cli.main", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.root / "work",
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        try:
            out, _ = process.communicate(timeout=STORY_SECONDS)
        finally:
            process.kill()
        return process.returncode, out

    def events(self, *arguments: str) -> "Events":
        """`with place.events("demo", "--output", "json") as (process, next_event):`"""
        return Events(self.start(*arguments))

    def running(self) -> list[str]:
        """Command lines of all processes that bear the mark."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found

    def assert_nothing_left(self) -> None:
        assert self.running() == []
        written = {p.relative_to(self.root).parts[:2] for p in self.root.rglob("*") if p.is_file()}
        assert {"/".join(parts) for parts in written} == {"work/.demo"}
        assert not (self.root / "work/.demo/endpoints.json").exists()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if not sys.platform.startswith("linux"):
        pytest.skip("looks for processes in /proc")
    yield Place(tmp_path, uuid.uuid4().hex)


class Events:
    """The JSON lines of a process, with a deadline; it is killed at the end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process, self._lines = process, queue.Queue[str]()
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Any:
        self._reader.start()
        return self._process, self._next

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text)

    def _next(self, right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + STORY_SECONDS
        while True:
            found: dict[str, Any] = json.loads(self._lines.get(timeout=deadline - time.monotonic()))
            if right(found):
                return found
