"""`canopy device why NAME`: one screen from Kubernetes to the device and back, and the first place where it stops."""

import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from canopy.cli.api import FleetApi
from canopy.cli.failure import FAILED, NOT_FOUND
from canopy.cli.output import Output, clock, line, print_json, shown, table
from canopy.cli.target import find

HELP = """Say why a device does not do what it should: the way from Kubernetes to the device and back, step by step,
the first place where it stops, and what to try.

\b
Examples:
  canopy device why default/light
  canopy device why light --output json

\b
Exit codes: 0 nothing stops the way, 1 something does (or the question failed), 2 wrong usage, 3 no such device,
4 no connection.
"""
WORDS = {"ok": "ok", "stop": "STOP", "unknown": "?"}
NARROW_CHARACTERS = 60
PIPE_CHARACTERS = 100
BESIDE_CHARACTERS = 44
"""What stands before the text of a step."""


def why(namespace: str, name: str, output: Output, api_url: str, api_token: str) -> None:
    """Ask, show, and end with the code that says whether anything stops the way."""
    with FleetApi(find(api_url, api_token)) as api:
        found = api.get(f"devices/{namespace}/{name}/why")
    if output is Output.JSON:
        print_json(found)
    else:
        draw(found, round(time.time() * 1000))
    if not found["well"]:
        raise typer.Exit(FAILED if found["exists"] else NOT_FOUND)


def draw(found: Mapping[str, Any], now: int) -> None:
    """One screen."""
    stops = found["stops_at"]
    line(f"{shown(found['namespace'])}/{shown(found['name'])}: {_sum(found)}")
    table(("", "step", "since", "what"), [_row(step, now) for step in found["steps"]])
    for text in _advice(stops) if stops else ():
        line(text)


def _sum(found: Mapping[str, Any]) -> str:
    if found["stops_at"]:
        first = found["stops_at"]["step"]
        more = [s["step"] for s in found["steps"] if s["verdict"] == "stop" and s["step"] != first]
        return f"stops at {first}" + (f" (and at {', '.join(more)})" if more else "")
    unknown = [step["step"] for step in found["steps"] if step["verdict"] == "unknown"]
    return f"nothing stops it; not known: {', '.join(unknown)}" if unknown else "all is well"


def _row(step: Mapping[str, Any], now: int) -> tuple[str, ...]:
    return (WORDS[step["verdict"]], step["step"], since(step["since"], now), cut(step["text"]))


def _advice(stops: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"It stops at {stops['step']}: {shown(stops['text'])}."
    if stops["tries"]:
        yield "Try:"
    for text in stops["tries"]:
        yield f"  - {shown(text)}"


def cut(text: str) -> str:
    """So that a step is one line; the one that matters is told in full below."""
    width = shutil.get_terminal_size((PIPE_CHARACTERS + BESIDE_CHARACTERS, 24)).columns - BESIDE_CHARACTERS
    room = max(NARROW_CHARACTERS, width)
    return text if len(text) <= room else text[: room - 3] + "..."


def since(ms: int | None, now: int) -> str:
    """A time and how long ago that is."""
    return f"{clock(ms)[:-4]} ({age(now - ms)})" if ms else ""


def age(ms: int) -> str:
    """How long, in the largest unit that says something."""
    seconds = max(0, ms // 1000)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
