"""A DeviceTwin with a bug, for the story of the poisoned message: a twin with a property `poison` cannot be stored.

Runs in the container of the real unit, `python -m poison`, in place of `python -m canopy.launch`.
"""

import os
import sys
from typing import Any

from canopy.devicetwin import batch
from canopy.launch.__main__ import main

seal = batch.seal


def poisoned_seal(device: Any) -> Any:
    if "poison" in device.state.twins:
        raise KeyError("a bug that shows when it is stored")
    return seal(device)


if __name__ == "__main__":
    batch.seal = poisoned_seal
    sys.exit(main(sys.argv[1:], os.environ, sys.stdout, sys.stderr))
