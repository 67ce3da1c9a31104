"""`canopy version`: of the command line and of the link's protocol."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from canopy.cli.output import Output, OutputOption, line, print_json

HELP = """Say which version this is.

\b
Examples:
  canopy version
  canopy --version
  canopy version --output json
"""


def version(output: OutputOption = Output.TABLE) -> None:
    found = {"canopy": _canopy(), "protocol": _protocol(), "python": platform.python_version()}
    if output is Output.JSON:
        return print_json(found)
    line(f"canopy {found['canopy']} (link protocol {found['protocol']}, Python {found['python']})")


def said(asked: bool) -> None:
    """`canopy --version`, before any command. Raises typer.Exit when asked."""
    if asked:
        version()
        raise typer.Exit


def _canopy() -> str:
    try:
        return installed("canopy")
    except PackageNotFoundError:
        return "unknown"


def _protocol() -> str:
    from canopy.contracts.wire import PROTOCOL

    return f"{PROTOCOL[0]}-{PROTOCOL[1]}" if PROTOCOL[0] != PROTOCOL[1] else str(PROTOCOL[0])
