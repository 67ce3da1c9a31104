"""`python -m canopy.launch`: the entry point of every unit's image. No command line framework stands in it."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from canopy.launch.asking import NoHealth, ask
from canopy.launch.errors import WrongUsage

USAGE = """python -m canopy.launch [UNIT...]   run these units of one plane in this process, until SIGTERM
                                    none named: those in CANOPY_UNITS, like "edgehub metamanager"
python -m canopy.launch --health    is the process that runs here alive? exit code 0 or 1
python -m canopy.launch --ready     is it ready? says what is not; exit code 0 or 1
Settings come from the environment only: CANOPY_NATS_URL, CANOPY_DEVICETWIN_...
"""
ASKS = {"--health": "/healthz", "--ready": "/readyz"}
FAILED, USAGE_CODE = 1, 2


def main(arguments: Sequence[str], environment: Mapping[str, str], out: TextIO, err: TextIO) -> int:
    """Do what the arguments say; the exit code."""
    if arguments and arguments[0] in ("-h", "--help"):
        out.write(USAGE)
        return 0
    if len(arguments) == 1 and arguments[0] in ASKS:
        return _healthy(environment.get("CANOPY_HEALTH_LISTEN", ""), ASKS[arguments[0]], out)
    try:
        return _run(arguments or environment.get("CANOPY_UNITS", "").split())
    except WrongUsage as e:
        err.write(f"canopy: {e}\n")
        return USAGE_CODE


def _healthy(listen: str, path: str, out: TextIO) -> int:
    try:
        status, body = ask(listen, path)
    except NoHealth as e:
        out.write(f"{e}\n")
        return FAILED
    out.write(body)
    return 0 if status == 200 else FAILED


def _run(names: Sequence[str]) -> int:
    from canopy.launch.units import UNITS, chosen

    if not names or names[0].startswith("-"):
        raise WrongUsage(f"UNIT: name some of {', '.join(UNITS)}, in arguments or in CANOPY_UNITS\n{USAGE}")
    rows = chosen(names)
    from canopy.launch.process import run_process  # only here: asking for health is to start fast

    asyncio.run(run_process(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
