"""The units and other processes of the whole system: each with an exact way to know when it is ready.

`system` makes them. A process is known by its pid together with its `birth`: pids are used again, both are not.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from canopy.testing.child import HOST, LOOK_SECONDS, Child, tail

READY_SECONDS = 40.0
HEALTH_SECONDS = 2.0


class NotReady(RuntimeError):
    """A process did not come up, or ended. `process` is its name; the text ends with the last lines of its log."""

    def __init__(self, process: str, why: str, log: Path) -> None:
        super().__init__(f"{process} {why}; the end of {log}:\n{tail(log)}")
        self.process = process


def birth(pid: int) -> str:
    """When the process began, in the system's own words; "" if there is none (or only its remains)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if sys.platform.startswith("linux") else _birth_by_ps(pid)
    return "" if fields[0] == "Z" else fields[19]


def _birth_by_ps(pid: int) -> str:
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Ours without its CANOPY_ variables, and `own`: what a person has set must not reach into the system."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("CANOPY_")}
    return {**inherited, "PYTHONUNBUFFERED": "1", **own}


class Process(Child):
    """One child: `python -m module ...`."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, own: Mapping[str, str] | None = None, health_port: int = 0
    ) -> None:
        self.name, self.health_port = name, health_port
        super().__init__([sys.executable, "-m", *arguments], environment(own or {}), log)

    async def ready(self, seconds: float = READY_SECONDS) -> None:
        """Wait for /readyz where there is a health port, else for a JSON line with `"ready": true` in its output.

        Raises NotReady.
        """
        look = self._looks_healthy if self.health_port else self._has_said_so
        try:
            async with asyncio.timeout(seconds):
                while not await look():
                    if not self.running:
                        raise NotReady(self.name, f"ended with {self._code()} while starting", self.log)
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError:
            raise NotReady(self.name, f"is not ready after {seconds:g} s{await self._complaint()}", self.log) from None

    def said(self) -> dict[str, Any] | None:
        """The line that it printed when it became ready, if it is of those who print one."""
        with self.log.open("rb") as log:
            log.seek(self._log_began)
            lines = log.read().split(b"\n")[:-1]
        return next((json.loads(text) for text in lines if text.startswith(b'{"ready": true')), None)

    async def _has_said_so(self) -> bool:
        return self.said() is not None

    async def _looks_healthy(self) -> bool:
        return (await self.health()).get("ready", False) is True

    async def health(self) -> dict[str, Any]:
        """What /readyz says: {"ready", "checks", "silent"}; {} while nobody listens."""
        try:
            async with asyncio.timeout(HEALTH_SECONDS):
                found: dict[str, Any] = json.loads(await _asked(self.health_port))
        except (OSError, TimeoutError, ValueError):
            return {}
        return found

    async def _complaint(self) -> str:
        found = await self.health() if self.health_port else {}
        wrong = [f"{c['unit']}: {c['check']}: {c['detail']}" for c in found.get("checks", []) if not c["ok"]]
        return f" ({'; '.join(wrong)})" if wrong else ""

    def _code(self) -> str:
        return "nothing" if self._process is None else f"exit code {self._process.poll()}"


async def _asked(port: int) -> bytes:
    """By hand, since it is asked of many processes fifty times a second while they start, and they want the processor:
    the unit's server closes when it has answered."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"GET /readyz HTTP/1.1\r\n\r\n")
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    finally:
        writer.close()
