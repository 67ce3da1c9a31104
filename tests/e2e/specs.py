"""A container as it should be: what `boxes` makes, and what is common to those of a run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TAG = os.environ.get("CANOPY_E2E_TAG", "dev")
STORE, MEMORY = "/var/lib/canopy", "400m"
WAIT_FOR_THE_END = "import signal as s; s.pthread_sigmask(s.SIG_BLOCK, {2, 15}); s.sigwait({2, 15})"
"""Of what holds something for others: a network, processes; or waits for commands."""


def image(name: str, tag: str = TAG) -> str:
    return f"canopy/{name}:{tag}"


@dataclass(frozen=True, slots=True)
class Spec:
    """A container as it should be. `ports` and `health` are (inside -> on loopback of this machine); `inside` names the
    box whose network namespace it shares; `mounts` are read-only, `volumes` and `in_memory` are the run's own, by where
    they stand (`:ro` behind it: only to read). `processes` names the box whose processes it sees, or is `host`."""

    name: str
    image: str
    env: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    ports: Mapping[int, int] = field(default_factory=dict)
    mounts: Mapping[Path, str] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    in_memory: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    inside: str = ""
    processes: str = ""
    health: str = ""
    """The URL that says 200 when it is ready; empty: it is ready when it runs."""
    user: str = "65532:65532"
    memory: str = MEMORY
    tmp: str = "64m"


def holder(name: str, of: str = "nats", **more: Any) -> Spec:
    """Does nothing, for as long as it is let."""
    return Spec(name, image(of), entrypoint=("python3", "-c", WAIT_FOR_THE_END), **more)
