"""The one table of units: what may run, and on which plane. A unit is imported only when it is named."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from canopy.contracts.roles import EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.launch.errors import WrongUsage

Plane = Literal["cloud", "edge"]


@dataclass(frozen=True, slots=True)
class Row:
    """One unit: `build` is "module:function" of its composition root."""

    name: str
    plane: Plane
    build: str
    does: str
    alone: bool = False
    """Shares no process: it holds keys that nobody else may."""
    before: str = ""
    """"module:function" of what stands while this unit's process lives, and before it connects: the function is given
    the shared settings and makes an async context; what that gives, if anything, is the nkey seed to connect with."""

    def load(self) -> Any:
        """The function `build(env) -> Unit`. Raises WrongUsage where this unit is not installed."""
        return self._function(self.build)

    def load_before(self) -> Any:
        """The function of `before`, None if there is none."""
        return self._function(self.before) if self.before else None

    def _function(self, named: str) -> Any:
        module, _, function = named.partition(":")
        package = module.rpartition(".")[0]
        if find_spec(package) is None:
            raise WrongUsage(f"UNIT: {self.name} is not installed here (no {package}); its image is canopy/{self.name}")
        return getattr(import_module(module), function)


def _row(name: str, plane: Plane, does: str, alone: bool = False, prepares: bool = False) -> Row:
    before = f"canopy.{name}.prepare:prepared" if prepares else ""
    return Row(name, plane, f"canopy.{name}.unit:build", does, alone, before)


UNITS = {
    row.name: row
    for row in (
        _row("cloudhub", "cloud", "the cloud end of the link, and the fleet API"),
        _row("devicecontroller", "cloud", "which Devices a node should have; DeviceStatus"),
        _row("edgecontroller", "cloud", "Nodes and their leases"),
        _row(SPIRE_INTEGRATION, "cloud", "who may connect to the hub and say what; joining", alone=True, prepares=True),
        _row("edgehub", "edge", "the edge end of the link"),
        _row("metamanager", "edge", "the local copy of what should be"),
        _row("devicetwin", "edge", "the twins, and the MQTT contract"),
        _row("mapper", "edge", "device protocols, by drivers"),
        _row(EDGEIDENTITY, "edge", "this node's identities, and its leaf's configuration", prepares=True),
    )
}


def chosen(names: Sequence[str]) -> tuple[Row, ...]:
    """The rows of `names`, in the table's order. Raises WrongUsage for an unknown one, a double one, two planes."""
    known = ", ".join(UNITS)
    unknown = [name for name in names if name not in UNITS]
    if unknown:
        raise WrongUsage(f"UNIT: there is no unit {', '.join(map(repr, unknown))}; there are {known}")
    if len(set(names)) < len(names):
        raise WrongUsage("UNIT: name each unit once; replicas are processes of their own")
    rows = tuple(row for row in UNITS.values() if row.name in names)
    if len({row.plane for row in rows}) > 1:
        raise WrongUsage(f"UNIT: {_by_plane(rows)}: units of two planes share no connection; run two processes")
    if len(rows) > 1 and (alone := [row.name for row in rows if row.alone]):
        raise WrongUsage(f"UNIT: {alone[0]} runs in a process of its own; name it alone")
    return rows


def _by_plane(rows: Sequence[Row]) -> str:
    return ", ".join(f"{row.name} is of the {row.plane}" for row in rows)
