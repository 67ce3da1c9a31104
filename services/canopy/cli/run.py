"""`canopy run UNIT...`: one unit, or several of one plane folded in one process. Containers and the demo start this."""

import asyncio
import os
from collections.abc import Sequence
from typing import Annotated

import typer

from canopy.cli.failure import UsageFailure
from canopy.cli.output import Output, OutputOption, print_json, table
from canopy.launch.units import UNITS, Row, chosen

HELP = """Run one unit, or several of one plane folded in one process, until SIGTERM or Ctrl-C.

Settings come from the environment (CANOPY_NATS_URL, CANOPY_DEVICETWIN_...) and from --set, which wins.
Everything listens on loopback; inside a container or pod CANOPY_INSECURE_LISTEN=true lets it listen beyond.

\b
Examples:
  canopy run --list
  canopy run devicetwin --settings
  canopy run edgehub metamanager devicetwin mapper --set node_name=edge-1
  canopy run cloudhub --set nats_url=tls://hub:4222 --set identity_dir=/run/canopy

\b
Exit codes: 0 ended when told to, 1 failed, 2 wrong usage or a wrong setting.
"""

Names = Annotated[list[str] | None, typer.Argument(metavar="UNIT...", help="Units to run; see --list.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="A setting: node_name=edge-1, or UNIT.NAME=VALUE; repeat it."),
]


def run(
    units: Names = None,
    sets: Sets = None,
    list_units: Annotated[bool, typer.Option("--list", help="List the units and end.")] = False,
    settings: Annotated[bool, typer.Option("--settings", help="List the settings of these units and end.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    if list_units:
        return _show(("unit", "plane", "does"), [(r.name, r.plane, r.does) for r in UNITS.values()], output)
    if not units:
        raise UsageFailure(f"UNIT: name at least one of {', '.join(UNITS)}")
    rows = chosen(units)
    if settings:
        return _list_settings(rows, output)
    os.environ.update(as_lines(output) | variables(sets or []))
    from canopy.launch.process import run_process  # only here: other commands start faster without the bus

    asyncio.run(run_process(rows))


def as_lines(output: Output) -> dict[str, str]:
    """With `--output json` a process that stays says JSON lines, as with CANOPY_LOG_FORMAT=json."""
    return {"CANOPY_LOG_FORMAT": "json"} if output is Output.JSON else {}


def variables(sets: Sequence[str]) -> dict[str, str]:
    """KEY=VALUE to environment variables. Raises UsageFailure for what is not of this form or names no unit."""
    return dict(_variable(given) for given in sets)


def _variable(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    unit, dot, name = key.rpartition(".")
    if not equals or not name or (dot and not unit):
        raise UsageFailure(f"--set {given!r}: it should be KEY=VALUE or UNIT.KEY=VALUE, like node_name=edge-1")
    if unit and unit not in UNITS:
        raise UsageFailure(f"--set {given!r}: there is no unit {unit!r}; there are {', '.join(UNITS)}")
    if not unit:
        _check_shared(given, name)
    return "_".join(part.upper() for part in ("canopy", unit, name) if part), value


def _check_shared(given: str, name: str) -> None:
    from canopy.runtime.settings import Shared

    if name.lower() not in Shared.model_fields:
        known = ", ".join(Shared.model_fields)
        raise UsageFailure(
            f"--set {given!r}: there is no shared setting {name!r}; there are {known}; a unit's own are UNIT.KEY"
        )


def _list_settings(rows: Sequence[Row], output: Output) -> None:
    from canopy.cli.settings import of_units

    _show(("variable", "default", "what it is"), of_units(rows), output)


def _show(columns: Sequence[str], rows: Sequence[Sequence[str]], output: Output) -> None:
    if output is Output.JSON:
        return print_json([dict(zip(columns, row, strict=True)) for row in rows])
    table(columns, rows)
