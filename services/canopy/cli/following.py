"""Following live twins over the fleet API: what the server ends is begun again; an outage is waited out for a while."""

import sys
import time
from collections.abc import Iterator
from typing import Any

from canopy.cli.api import FleetApi
from canopy.cli.failure import NO_CONNECTION, Failure

PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 1.0
AGAIN = ("closed", "slow")


def follow(api: FleetApi, **where: str) -> Iterator[dict[str, Any]]:
    """Each live twin as it is, then as it changes; one that is said again unchanged is left out. Raises Failure."""
    said: dict[tuple[str, str], tuple[str, int]] = {}
    since: float | None = None  # when the connection was lost; a first one that fails is the caller's failure
    while True:
        try:
            for event, body in api.watch("watch", **where):
                since = time.monotonic()
                if event == "error":
                    raise Failure(f"the watch ended: {body['error']['reason']}")
                if event in AGAIN:
                    break
                if event == "twin" and _is_new(said, body):
                    yield body
        except Failure as failure:
            if failure.code != NO_CONNECTION or since is None or time.monotonic() - since > PATIENCE_SECONDS:
                raise
            sys.stderr.write(f"canopy: {failure}; trying on\n")
        time.sleep(PAUSE_SECONDS)


def _is_new(said: dict[tuple[str, str], tuple[str, int]], twin: dict[str, Any]) -> bool:
    key, state = (twin["namespace"], twin["name"]), (twin["uid"], twin["revision"])
    if said.get(key) == state:
        return False
    said[key] = state
    return True
