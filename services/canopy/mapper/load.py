"""Finding a driver: by protocol among the installed ones, or in one file (`canopy mapper run lamp.py`)."""

import importlib.util
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType

from canopy.mapper.sdk import Driver

GROUP = "canopy.drivers"


class NoDriver(Exception):
    """There is no driver where one was looked for; the text says what would be right."""


def installed() -> dict[str, EntryPoint]:
    """The installed drivers by protocol."""
    return {point.name: point for point in entry_points(group=GROUP)}


def by_protocol(protocol: str) -> Driver:
    """The installed driver of a protocol. Raises NoDriver."""
    points = installed()
    point = points.get(protocol.lower())
    if point is None:
        known = ", ".join(sorted(points)) or "none is installed"
        raise NoDriver(f'no driver for the protocol "{protocol}": {known}. A package gives one in the group {GROUP}')
    try:
        found = point.load()
    except Exception as e:
        raise NoDriver(f"the driver {point.name} ({point.value}) cannot be loaded: {e!r}") from e
    return _make(found, point.value)


def from_file(path: Path) -> Driver:
    """The one Driver subclass that a Python file defines. Raises NoDriver."""
    if not path.is_file():
        raise NoDriver(f"{path} is not a file")
    module = _execute(path)
    found = [c for c in vars(module).values() if _is_driver(c) and c.__module__ == module.__name__]
    if len(found) != 1:
        names = ", ".join(sorted(c.__name__ for c in found)) or "none"
        raise NoDriver(f"{path} should define one subclass of canopy.mapper.sdk.Driver, but defines {names}")
    return _make(found[0], str(path))


def _execute(path: Path) -> ModuleType:
    name = f"canopy_driver_{path.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise NoDriver(f"{path} is not a Python file: its name should end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the driver look their module up here
    try:
        spec.loader.exec_module(module)
    except Exception as e:
        raise NoDriver(f"{path} cannot be loaded: {e!r}") from e
    return module


def _is_driver(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Driver) and found is not Driver


def _make(found: object, where: str) -> Driver:
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise NoDriver(f"{where} is not a subclass of canopy.mapper.sdk.Driver")
    if not isinstance(getattr(found, "protocol", None), str):
        raise NoDriver(f'{where} should say its protocol, like `protocol = "lamp"` in the class')
    try:
        return found()
    except Exception as e:
        raise NoDriver(f"{where} cannot be made without arguments: {e!r}") from e
