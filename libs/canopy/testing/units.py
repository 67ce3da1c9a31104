"""Processes of units as a `System` makes them: `python -m canopy.launch ...`, as a container starts them, with settings
in their environment. No code of theirs is imported here.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, TRUST_UNITS
from canopy.testing.child import HOST, free_port
from canopy.testing.processes import Process

RUN = ("canopy.launch",)
Settings = Mapping[str, str]
"""CANOPY_ variables, without that prefix."""


@dataclass(frozen=True, slots=True)
class Units:
    """Makes them. `settings` go to each that they are meant for; logs lie in `logs`."""

    logs: Path
    settings: Settings

    def process(self, name: str, units: Sequence[str], own: Settings) -> Process:
        health = free_port()
        given = {**own, "HEALTH_LISTEN": f"{HOST}:{health}", **self.settings}
        mine = {f"CANOPY_{k}": v for k, v in given.items() if _meant_for(k, units)}
        return Process(name, (*RUN, *units), self.log(name), mine, health)

    def log(self, name: str) -> Path:
        return self.logs / f"{name.replace('/', '.')}.log"


def parts(split: bool, folded: str, units: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    """(who it is on the bus, its units) of each process."""
    return [(unit, (unit,)) for unit in units] if split else [(folded, units)]


async def ready(processes: Iterable[Process]) -> str:
    """Until all are; words for it. Raises NotReady."""
    waited, began = list(processes), time.monotonic()
    await asyncio.gather(*(process.ready() for process in waited))
    return f"{', '.join(process.name for process in waited)}: ready after {time.monotonic() - began:.1f} s"


def _meant_for(variable: str, units: Sequence[str]) -> bool:
    """A variable of a unit that is not in the process would only be noise there."""
    others = [unit for unit in (*CLOUD_UNITS, *EDGE_UNITS, *TRUST_UNITS) if unit not in units]
    return not variable.startswith(tuple(f"{unit.upper()}_" for unit in others))
