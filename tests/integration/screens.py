"""What a person sees: `canopy` as a process of its own, its screen and its exit code."""

import asyncio
import sys
from dataclasses import dataclass

from canopy.testing.system import System
from canopy.testing.wait import until

SCREEN_LINES = 24


@dataclass(frozen=True, slots=True)
class Screen:
    """What a command said, and how it ended."""

    code: int
    text: str


async def canopy(system: System, *arguments: str) -> Screen:
    """Run `canopy ...` against this system's fleet API."""
    target = ("--api-url", system.api_url, "--api-token", system.api_token)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "canopy.cli.main",
        *arguments,
        *target,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return Screen(process.returncode or 0, said.decode())


async def why(system: System, name: str, stops_at: str, *words: str, seconds: float = 15.0) -> None:
    """Wait until one screen says that the device stops there, in these words, and the exit code says so too."""
    screen = Screen(-1, "")

    async def says_so() -> bool:
        nonlocal screen
        screen = await canopy(system, "device", "why", name)
        head = f"{name}: stops at {stops_at}" if stops_at else f"{name}: all is well"
        return head in screen.text and all(word in screen.text for word in words)

    try:
        await until(says_so, seconds)
    except TimeoutError:
        raise AssertionError(f"no screen names {stops_at} {words}: it is\n{screen.text}") from None
    assert screen.code == (1 if stops_at else 0) and len(screen.text.splitlines()) <= SCREEN_LINES
