"""A real redis-server for tests: on a free port, in a folder of its own, keeping nothing."""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from canopy.testing.child import free_port

DEADLINE_SECONDS = 20.0
ATTEMPTS = 3  # another process may take the port between finding it and listening

MISSING = "no redis-server on PATH: what needs a real Redis is left out"


def found() -> str | None:
    """Where redis-server is, if this machine has one."""
    return shutil.which("redis-server")


@contextmanager
def redis_server(port: int = 0) -> Iterator[str]:
    """The server's url (`redis://127.0.0.1:port/0`) while the block runs; it is killed at the end."""
    with tempfile.TemporaryDirectory(prefix="canopy-redis-") as folder:
        server, at = _started(Path(folder), port)
        try:
            yield f"redis://127.0.0.1:{at}/0"
        finally:
            server.kill()
            server.wait()


def _started(folder: Path, port: int) -> "tuple[subprocess.Popen[bytes], int]":
    for _ in range(ATTEMPTS):
        at = port or free_port()
        server = _spawn(folder, at)
        if _listens(server, at):
            return server, at
        server.kill()
        server.wait()
    raise RuntimeError(f"redis-server did not start: {(folder / 'log').read_text()}")


def _spawn(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    binary = found()
    if binary is None:
        raise RuntimeError(MISSING)
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "no"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen([binary, *options], stdout=log, stderr=log)


def _listens(server: "subprocess.Popen[bytes]", port: int) -> bool:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            return True
        time.sleep(0.01)
    return False


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as talk:
            talk.sendall(b"PING\r\n")
            return talk.recv(16).startswith(b"+PONG")
    except OSError:
        return False
