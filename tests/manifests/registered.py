"""What a SPIRE server is told before spire_integration keeps its entries, and the programs of deploy as modules."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from canopy.identity import ids
from canopy.spire_integration import entries


def module(path: Path) -> ModuleType:
    """A program of deploy."""
    spec = importlib.util.spec_from_file_location(f"deploy_{path.parent.name}_{path.stem}", path)
    assert spec and spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def words(first: str) -> dict[str, set[str]]:
    """The lines of what entries.sh reads, by path."""
    return {line.split()[0]: set(line.split()[1:]) for line in first.splitlines()}


def agree(first: str, kept: Iterable[entries.Entry], td: str) -> None:
    """What is registered first is what is kept later: else the two that register would undo each other's work."""
    found = {path: more for path, more in words(first).items() if "node" not in more}
    assert set(found) == {"cloud/spire_integration", "hub"}
    hub = next(entry for entry in kept if entry.id == ids.hub(td))
    more = {f"parent:{hub.parent.path[1:]}", *hub.selectors, *(f"dns:{name}" for name in hub.dns)}
    assert found["hub"] == more | ({f"ttl:{hub.ttl_seconds}"} if hub.ttl_seconds else set())
