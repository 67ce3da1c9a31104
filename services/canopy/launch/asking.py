"""Asks the process of units in this container for its health: what an image's health command runs, without curl.

Only the socket module: this starts every few seconds on machines with little of everything.
"""

import socket

TIMEOUT_SECONDS = 4.0
MOST_BYTES = 64 * 1024
PORT = 8081
ANYWHERE = ("", "0.0.0.0", "::")  # noqa: S104


class NoHealth(Exception):
    """Nobody answered; the text says where it was asked."""


def ask(listen: str, path: str) -> tuple[int, str]:
    """(HTTP status, body) of GET `path` at CANOPY_HEALTH_LISTEN (host:port; empty: port 8081). Raises NoHealth."""
    host, port = _at(listen)
    try:
        return _parted(_exchanged(host, port, path))
    except (OSError, ValueError) as e:
        raise NoHealth(f"http://{host}:{port}{path}: {e}") from None


def _at(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not port.isdigit() or not int(port):
        if listen:
            raise NoHealth(f"CANOPY_HEALTH_LISTEN is {listen!r}: give it a port of its own, like 0.0.0.0:{PORT}")
        port = str(PORT)
    return "127.0.0.1" if host.strip("[]") in ANYWHERE else host.strip("[]"), int(port)


def _exchanged(host: str, port: int, path: str) -> bytes:
    with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as talk:
        talk.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        got = bytearray()
        while len(got) < MOST_BYTES and (more := talk.recv(4096)):
            got += more
    return bytes(got)


def _parted(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not head.startswith(b"HTTP/1."):
        raise ValueError("what answers there speaks no HTTP")
    return int(words[1]), body.decode("utf-8", "replace")
