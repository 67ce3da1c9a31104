"""`canopy demo`: the whole system on this machine, its story, and then something to play with until Ctrl-C."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from canopy.cli.failure import Failure
from canopy.cli.output import Output, OutputOption

HELP = """Start the whole system on this machine, show what it does, and keep it up until Ctrl-C.

Servers (NATS hub and leaf, a small Kubernetes API), cloud units, an edge node and a Modbus light run as processes on
free ports of loopback. Nothing is written outside --dir, and nothing is left running.

\b
Examples:
  canopy demo
  canopy demo --once
  canopy demo --split --dir /tmp/canopy-demo
  canopy demo --once --output json

\b
Exit codes: 0 the story went well, 1 a step failed (its name and log lines are shown), 2 wrong usage, 130 interrupted.
"""


def demo(
    once: Annotated[bool, typer.Option("--once", help="Tell the story, then end.")] = False,
    split: Annotated[bool, typer.Option("--split", help="A process for each unit; else one per plane.")] = False,
    directory: Annotated[
        Path, typer.Option("--dir", help="Everything is written here; emptied at the next start.")
    ] = Path(".demo"),
    output: OutputOption = Output.TABLE,
) -> None:
    try:
        from canopy.cli.show import show
    except ImportError as e:
        raise Failure(f"{e.name or e} is not installed: the demo needs the extra canopy[demo]") from None
    code = asyncio.run(show(directory, once, split, output))
    if code:
        raise typer.Exit(code)
