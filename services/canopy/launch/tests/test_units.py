"""The table of units, and which of them may share a process."""

import subprocess
import sys

import pytest

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.launch.errors import WrongUsage
from canopy.launch.units import UNITS, Row, chosen


def test_the_table_has_every_unit_with_rights_on_its_plane() -> None:
    assert tuple(n for n, r in UNITS.items() if r.plane == "cloud") == (*CLOUD_UNITS, SPIRE_INTEGRATION)
    assert tuple(n for n, r in UNITS.items() if r.plane == "edge") == (*EDGE_UNITS, EDGEIDENTITY)


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_of_the_table_can_be_loaded(name: str) -> None:
    assert callable(UNITS[name].load())
    assert (UNITS[name].load_before() is not None) == (name in (SPIRE_INTEGRATION, EDGEIDENTITY))


A_WHOLE_EDGE = """
import sys
import canopy.launch.process
from canopy.launch.units import UNITS
from canopy.mapper.load import by_protocol

for row in UNITS.values():
    if row.plane == "edge":
        row.load(), row.load_before()
by_protocol("modbus")
print(*{name.partition(".")[0] for name in sys.modules}, *sys.modules)
"""
NOT_AT_THE_EDGE = "aiohttp fastapi google grpc kubernetes nkeys redis starlette typer uvicorn urllib3 urllib.request"
ONLY_WITH_A_MODBUS_DEVICE = "pymodbus serial"


def test_an_edge_has_in_its_memory_no_library_that_it_does_not_use() -> None:
    said = subprocess.run([sys.executable, "-c", A_WHOLE_EDGE], capture_output=True, text=True, check=True).stdout
    loaded = set(said.split())
    assert "canopy.mapper.drivers.modbus" in loaded
    assert not loaded & set(f"{NOT_AT_THE_EDGE} {ONLY_WITH_A_MODBUS_DEVICE}".split())


def test_units_come_in_the_order_of_the_table() -> None:
    assert [r.name for r in chosen(["mapper", "edgehub"])] == ["edgehub", "mapper"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["edgehub", "edgehup"], "there is no unit 'edgehup'; there are cloudhub, devicecontroller"),
        (["edgehub", "edgehub"], "name each unit once"),
        (["spire_integration", "cloudhub"], "spire_integration runs in a process of its own"),
        (["edgehub", "cloudhub"], "cloudhub is of the cloud, edgehub is of the edge"),
    ],
)
def test_wrong_units_are_refused_with_what_would_be_right(names: list[str], said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        chosen(names)


def test_a_unit_that_is_not_installed_is_said_with_its_image() -> None:
    with pytest.raises(WrongUsage, match=r"edged is not installed here .no canopy.edged.; its image is canopy/edged"):
        Row("edged", "edge", "canopy.edged.unit:build", "pods").load()
