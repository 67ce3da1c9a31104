"""Everything that a run makes bears its label; this removes it, also what a run that was killed has left."""

import contextlib
import os
import uuid
from typing import Any

import docker
from docker.errors import NotFound

from canopy.testing.processes import birth

ENGINE = {"timeout": 180}
"""Seconds for one answer of the engine: dozens of containers begin at once."""
LABEL, OWNER = "dev.canopy.e2e.run", "dev.canopy.e2e.owner"


def labels(run: str) -> dict[str, str]:
    """Of what this process makes for a run."""
    return {LABEL: run, OWNER: f"{os.getpid()} {birth(os.getpid())}"}


def new_run() -> str:
    return uuid.uuid4().hex[:8]


def swept(run: str = "") -> list[str]:
    """Remove what a run has made; without a name, what every run has whose process is no more."""
    client, gone = docker.from_env(**ENGINE), list[str]()

    def ours(thing: Any) -> bool:
        found = thing.attrs.get("Labels") or thing.attrs.get("Config", {}).get("Labels") or {}
        if run:
            return bool(found.get(LABEL) == run)
        pid, _, born = found.get(OWNER, "0 ").partition(" ")
        return birth(int(pid)) != born

    only = {"label": LABEL}
    for container in filter(ours, client.containers.list(all=True, filters=only, ignore_removed=True)):
        with contextlib.suppress(NotFound):
            container.remove(force=True, v=True)
            gone.append(str(container.name))
    for things in (client.networks.list(filters=only), client.volumes.list(filters=only)):
        for thing in filter(ours, things):
            with contextlib.suppress(NotFound):
                thing.remove()
                gone.append(str(thing.name))
    for image in filter(ours, client.images.list(filters=only)):
        client.images.remove(image.id, force=True)
        gone.append(str(image.tags))
    return gone
