"""The entry point `canopy`: registers the commands, and turns a Failure into its text and exit code."""

import sys
from typing import Annotated

import typer

from canopy.cli import (
    audit,
    deadletters,
    demo,
    device,
    doctor,
    join,
    mapper,
    nats,
    node,
    run,
    secrets,
    status,
    trace,
    version,
)
from canopy.cli.failure import EXIT_CODES, FAILED, USAGE, Failure
from canopy.launch.errors import WrongUsage

HELP = f"""Runs applications and devices at the edge from a Kubernetes cloud, also when the link is gone.

\b
Examples:
  canopy demo
  canopy device list
  canopy device set default/light switch=true --wait

{EXIT_CODES}
"""


def application() -> typer.Typer:
    """All commands."""
    app = _group(HELP)
    app.callback()(_common)
    app.command("audit", help=audit.HELP)(audit.audit)
    app.command("demo", help=demo.HELP)(demo.demo)
    app.command("doctor", help=doctor.HELP)(doctor.doctor)
    app.command("join", help=join.HELP)(join.command)
    app.command("run", help=run.HELP)(run.run)
    app.command("secrets", help=secrets.HELP)(secrets.secrets)
    app.command("status", help=status.HELP)(status.status)
    app.command("trace", help=trace.HELP)(trace.trace)
    app.command("version", help=version.HELP)(version.version)
    app.add_typer(deadletters.commands(_group(deadletters.HELP)), name="deadletters")
    app.add_typer(device.commands(_group(device.HELP)), name="device")
    app.add_typer(nats.commands(_group(nats.HELP)), name="nats")
    app.add_typer(node.commands(_group(node.HELP)), name="node")
    app.add_typer(mapper.commands(_group(mapper.HELP)), name="mapper")
    return app


def _common(
    _: Annotated[
        bool, typer.Option("--version", callback=version.said, is_eager=True, help="Say which version this is and end.")
    ] = False,
) -> None:
    """What may stand before every command."""


def _group(text: str) -> typer.Typer:
    settings = {"help_option_names": ["-h", "--help"]}
    return typer.Typer(
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None if not sys.stdout.isatty() else "rich",
        context_settings=settings,
    )


def main() -> None:
    """What the script `canopy` calls."""
    try:
        application()()
    except Failure as failure:
        sys.stderr.write(f"canopy: {failure}\n")
        sys.exit(failure.code)
    except WrongUsage as wrong:
        sys.stderr.write(f"canopy: {wrong}\n")
        sys.exit(USAGE)
    except BrokenPipeError:
        sys.stderr.close()  # who read our pipe has gone: there is nobody to tell
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
