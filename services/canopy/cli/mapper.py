"""`canopy mapper run`: one mapper with one driver, of an installed package or of one file."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from canopy.cli.failure import UsageFailure
from canopy.cli.output import Output, OutputOption
from canopy.cli.run import Sets, as_lines, variables
from canopy.cli.target import demo_endpoints
from canopy.launch.units import chosen

HELP = """Mappers: they speak the devices' protocols.

\b
Examples:
  canopy mapper run examples/lamp.py
  canopy mapper run modbus
"""
RUN_HELP = """Run a mapper with one driver until Ctrl-C: an installed one by its protocol, or a file with one class.

It connects to the node's NATS: CANOPY_NATS_URL and CANOPY_IDENTITY_DIR (or --set), else to the demo in this folder.

\b
Examples:
  canopy mapper run examples/lamp.py
  canopy mapper run modbus --set node_name=edge-1 --set identity_dir=/var/lib/canopy/node/identity/units/mapper

\b
Exit codes: 0 ended when told to, 1 failed, 2 wrong usage, a wrong setting, or no such driver.
"""


def commands(group: typer.Typer) -> typer.Typer:
    group.command("run", help=RUN_HELP)(run_mapper)

    @group.callback()
    def mappers() -> None:
        """Keeps `run` a command of its own although it is the only one."""

    group.info.help = HELP
    return group


def run_mapper(
    driver: Annotated[str, typer.Argument(metavar="FILE_OR_DRIVER", help="lamp.py, or a protocol like modbus.")],
    sets: Sets = None,
    output: OutputOption = Output.TABLE,
) -> None:
    if driver.endswith(".py") and not Path(driver).is_file():
        raise UsageFailure(f"FILE_OR_DRIVER: there is no file {driver}")
    given = variables(sets or [])
    os.environ.update(as_lines(output) | _of_demo({**os.environ, **given}) | given | {"CANOPY_MAPPER_DRIVER": driver})
    from canopy.launch.process import run_process  # only here: other commands start faster without the bus

    asyncio.run(run_process(chosen(["mapper"])))


def _of_demo(environment: Mapping[str, str]) -> dict[str, str]:
    """The demo's node, unless a NATS was named."""
    demo = None if environment.get("CANOPY_NATS_URL") else demo_endpoints(Path.cwd())
    if demo is None:
        return {}
    return {
        "CANOPY_NODE_NAME": demo["node"],
        "CANOPY_NATS_URL": demo["leaf_url"],
        "CANOPY_TRUST_DOMAIN": demo["trust_domain"],
        "CANOPY_IDENTITY_DIR": demo["mapper_identity"],
    }
