"""A child process that dies with its parent (Linux: the kernel sees to it; elsewhere at the interpreter's exit).

`Child` is what the servers of `servers` and the processes of `processes` have in common: a log, and three ways to end.
"""

import asyncio
import atexit
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import cycle
from pathlib import Path

HOST = "127.0.0.1"
STOP_SECONDS = 12.0
LOOK_SECONDS = 0.02
TAIL_LINES = 12
PR_SET_PDEATHSIG = 1
PORTS = range(17_000, 29_000)
"""Below what kernels give to clients (Linux from 32768, macOS from 49152) and to NodePorts (from 30000)."""
PORT_STRIDE = 3_571
MOST_HELD = 100


def free_port() -> int:
    """A port of loopback on which nobody listens now, and which this process has not been given before, nor another
    one that asks here a moment ago.

    Not one of those that the kernel gives to whoever connects (or asks for port 0): by the time that a server takes
    it, it would now and then be somebody's.
    """
    return next(port for port in _ports() if _taken(port))


@cache
def _ports() -> Iterator[int]:
    """Of this process; each process begins elsewhere."""
    begin = os.getpid() * PORT_STRIDE % len(PORTS)
    return cycle((*PORTS[begin:], *PORTS[:begin]))


@cache
def _held() -> deque[socket.socket]:
    """The ports that were given last, until their servers listen, and while they start again."""
    return deque()


def _taken(port: int) -> bool:
    """Whether it was free. Then it is bound here, so that no other process finds it free; Linux lets a server that
    says SO_REUSEADDR, as all do, listen there all the same."""
    s = socket.socket()
    try:
        s.bind((HOST, port))
    except OSError:
        s.close()
        return False
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held = _held()
    held.append(s)
    while len(held) > (MOST_HELD if sys.platform.startswith("linux") else 0):
        held.popleft().close()
    return True


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log, indented."""
    try:
        found = log.read_text(errors="replace").splitlines()[-lines:]
    except OSError as e:
        return f"    ({e})"
    return "\n".join(f"    {text}" for text in found) or "    (it is empty)"


async def end(process: "subprocess.Popen[bytes]", how: signal.Signals, seconds: float = STOP_SECONDS) -> None:
    """Signal it, and wait; SIGKILL for what does not end in time."""
    process.send_signal(how)
    try:
        async with asyncio.timeout(seconds):
            while process.poll() is None:  # noqa: ASYNC110 - a child gives no event
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        process.kill()
        process.wait()


class Child:
    """One child, which may be stopped, killed and started again. Its log is appended to over restarts."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self._command, self._environment = list(command), dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    @property
    def pid(self) -> int:
        """0 while it does not run."""
        return self._process.pid if self.running and self._process else 0

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start it, and do not wait."""
        if self.running:
            raise RuntimeError(f"{self.log.stem} runs already")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._log_began = log.tell()
            self._process = child(self._command, self._environment, log.fileno())

    async def start(self) -> None:
        """Start it (again), and wait until it is ready."""
        self.spawn()
        await self.ready()

    async def ready(self) -> None:
        """Wait until it is."""
        raise NotImplementedError

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """SIGTERM; SIGKILL for what does not end in time."""
        await self._end(signal.SIGTERM, seconds)

    async def kill(self) -> None:
        """kill -9."""
        await self._end(signal.SIGKILL, STOP_SECONDS)

    async def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) it, and start it again with the same data and ports."""
        await (self.kill() if kill else self.stop())
        await self.start()

    async def _end(self, how: signal.Signals, seconds: float) -> None:
        if self._process is not None:
            await end(self._process, how, seconds)


def child(command: list[str], environment: Mapping[str, str], output: int) -> "subprocess.Popen[bytes]":
    """Start a process that dies with this one; `output` is the file descriptor of its log."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env=dict(environment),
        start_new_session=True,  # Ctrl-C is for the parent, which stops its children in order
        preexec_fn=_die_with_parent(),
    )
    atexit.register(process.kill)
    return process


def _die_with_parent() -> "Callable[[], None] | None":
    """What the child does between fork and exec: ask the kernel for SIGKILL when the thread that made it ends."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask
