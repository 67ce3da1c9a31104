"""Waiting until a device reports what it was told to be: `canopy device set --wait` and the demo's words for it."""

import time
from collections.abc import Mapping
from typing import Any

from canopy.cli.api import FleetApi
from canopy.cli.failure import NOT_FOUND, Failure

LOOK_SECONDS = 0.1


def wait_until_reported(
    api: FleetApi, namespace: str, name: str, wanted: Mapping[str, str], timeout_seconds: float
) -> float:
    """Seconds that it took. Raises Failure, naming what the device says instead, when the time is over."""
    began = time.monotonic()
    while True:
        differs = {k: v for k, v in _reported(api, namespace, name, wanted).items() if not same(v, wanted[k])}
        passed = time.monotonic() - began
        if not differs:
            return passed
        if passed > timeout_seconds:
            said = ", ".join(f"{k} is {v or 'not reported'} (should be {wanted[k]})" for k, v in differs.items())
            raise Failure(f"{namespace}/{name} after {timeout_seconds:g} s: {said}")
        time.sleep(LOOK_SECONDS)


def _reported(api: FleetApi, namespace: str, name: str, wanted: Mapping[str, str]) -> dict[str, str]:
    try:
        twins: dict[str, Any] = api.get(f"devices/{namespace}/{name}/twin")["twins"]
    except Failure as failure:
        if failure.code != NOT_FOUND:
            raise
        twins = {}  # its node has not sent any yet
    return {key: str(((twins.get(key) or {}).get("reported") or {}).get("value", "")) for key in wanted}


def same(said: str, wanted: str) -> bool:
    """Whether two texts are one value: True is true, 1.0 is 1."""
    if said == wanted or said.lower() == wanted.lower() in ("true", "false"):
        return True
    try:
        return float(said) == float(wanted)
    except ValueError:
        return False
