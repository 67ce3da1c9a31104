"""How a run tells what it does: a line a step as it begins, the step that failed by name, the figures at the end."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def say(text: str) -> None:
    """To whoever watches, past pytest's capturing."""
    print(text, file=sys.__stderr__, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """One step of a story: said when it begins and how long it took; named if it fails."""
    began = time.monotonic()
    print(f"    {what} ... ", end="", file=sys.__stderr__, flush=True)
    try:
        yield
    except BaseException as e:
        say(f"FAILED after {time.monotonic() - began:.1f} s")
        e.add_note(f"the step that failed: {what}")
        raise
    say(f"{time.monotonic() - began:.1f} s")


def kept(folder: Path, boxes: dict[str, Any]) -> Path:
    """Write the log of every container into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, box in boxes.items():
        (folder / f"{name}.log").write_bytes(box.logs())
    return folder


def figures(found: dict[str, Any], file: Path) -> None:
    """As a table for people, and as JSON for programs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n")
    sizes, times = found.get("rss_mb", {}), found.get("seconds to ready", {})
    say(f"\n{'container':30} {'RSS MB':>8} {'ready after s':>14}")
    for name in sorted({*sizes, *times}):
        say(f"{name:30} {sizes.get(name, ''):>8} {times.get(name, ''):>14}")
    for name, value in found.items():
        if not isinstance(value, dict):
            say(f"{name}: {value}")
    say(f"as JSON: {file}")
