"""Runs real units with bugs put into them, for the tests: `python -m poisoned devicetwin`, as `canopy.launch` would.

A device with a property called `poison` cannot be stored; a Device whose name begins with `poison` cannot be read.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

POISON = "poison"


@contextlib.asynccontextmanager
async def with_bugs(process: Any) -> AsyncIterator[None]:
    """Run the process of the system with the bugs until the block ends."""
    command, environment = process._command, process._environment
    process._command = [sys.executable, "-m", "poisoned", *command[command.index("canopy.launch") + 1 :]]
    process._environment = {**environment, "PYTHONPATH": str(Path(__file__).parent)}
    await process.restart()
    try:
        yield
    finally:
        process._command, process._environment = command, environment
        await process.restart()


def _put_in_the_bugs() -> None:
    from canopy.devicecontroller.adapters import kube
    from canopy.devicetwin import batch

    seal, read_device = batch.seal, kube.read_device

    def poisoned_seal(device: Any) -> Any:
        if POISON in device.state.twins:
            raise KeyError("a bug that shows when it is stored")
        return seal(device)

    def poisoned_read(raw: bytes) -> Any:
        seen = read_device(raw)
        if seen.name.startswith(POISON):
            raise KeyError("a bug that shows when it is read")
        return seen

    batch.seal, kube.read_device = poisoned_seal, poisoned_read


if __name__ == "__main__":
    from canopy.launch.__main__ import main

    os.environ.pop("PYTHONPATH", None)
    _put_in_the_bugs()
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
