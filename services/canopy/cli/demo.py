"""`canopy demo`: the whole system on this machine, its story, and then something to play with until Ctrl-C."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from canopy.cli.failure import Failure, UsageFailure
from canopy.cli.output import Output, OutputOption

HELP = """Start the whole system on this machine, show what it does, and keep it up until Ctrl-C.

Servers (NATS hub and leaf, a small Kubernetes API), cloud units, an edge node and a Modbus light run as processes on
free ports of loopback. Nothing is written outside --dir, and nothing is left running.

With --kubeconfig the same story is told on your own cluster: the demo says first what it will make there (a namespace
of its own, a Node, CRDs if they are missing), touches nothing else, and removes all of it at the end, also after
Ctrl-C (a second Ctrl-C does not wait for that).

\b
Examples:
  canopy demo
  canopy demo --once
  canopy demo --split --dir /tmp/canopy-demo
  canopy demo --once --output json
  canopy demo --kubeconfig ~/.kube/config --context kind-test

\b
Exit codes: 0 the story went well, 1 a step failed (its name and log lines are shown), 2 wrong usage, 4 no
connection to the cluster, 130 interrupted.
"""


def demo(
    once: Annotated[bool, typer.Option("--once", help="Tell the story, then end.")] = False,
    split: Annotated[bool, typer.Option("--split", help="A process for each unit; else one per plane.")] = False,
    directory: Annotated[
        Path, typer.Option("--dir", help="Everything is written here; emptied at the next start.")
    ] = Path(".demo"),
    kubeconfig: Annotated[
        Path | None,
        typer.Option("--kubeconfig", help="On the cluster that this file names; else on a small own one."),
    ] = None,
    context: Annotated[str, typer.Option("--context", help="Of --kubeconfig; else its current one.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    if context and kubeconfig is None:
        raise UsageFailure(f"--context {context} needs --kubeconfig FILE, the file that it is in")
    try:
        from canopy.cli.show import show
    except ImportError as e:
        raise Failure(f"{e.name or e} is not installed: the demo needs the extra canopy[demo]") from None
    code = asyncio.run(show(directory, once, split, output, kubeconfig, context))
    if code:
        raise typer.Exit(code)
