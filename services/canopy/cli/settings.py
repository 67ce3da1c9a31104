"""The settings of units, for `canopy run UNIT --settings`: read from each unit's `settings.py`, with its prose."""

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from canopy.launch.units import Row
from canopy.runtime.settings import Shared, UnitSettings, variables


def of_units(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(variable, default, prose) of the shared settings, then of each unit's own."""
    classes: list[type[UnitSettings]] = [Shared]
    classes += [cls for row in rows for cls in _classes(import_module(f"canopy.{row.name}.settings"))]
    return [entry for cls in classes for entry in variables(cls)]


def _classes(module: ModuleType) -> list[type[UnitSettings]]:
    found: list[Any] = [value for value in vars(module).values() if isinstance(value, type)]
    return [cls for cls in found if issubclass(cls, UnitSettings) and cls.__module__ == module.__name__]
