"""Finding drivers, and the example from the README."""

from pathlib import Path

import msgspec
import pytest
import yaml

from canopy.contracts.devices import Device, DeviceModel
from canopy.mapper.load import NoDriver, by_protocol, from_file
from canopy.mapper.sdk import BadConfig, DeviceUnreachable, DeviceView
from canopy.mapper.views import views

EXAMPLES = Path(__file__).parents[4] / "examples"
SDK = "from canopy.mapper.sdk import Driver\n"


def lamp(file: Path) -> DeviceView:
    model, device = yaml.safe_load_all((EXAMPLES / "lamp.yaml").read_text())
    device["spec"]["protocol"]["configData"]["file"] = str(file)
    found = views([msgspec.convert(device, Device)], [msgspec.convert(model, DeviceModel)], "lamp")
    assert not found.problems
    return found.views[0]


def test_the_modbus_driver_is_installed() -> None:
    assert by_protocol("Modbus").protocol == "modbus"


def test_an_unknown_protocol_is_said_with_those_that_are_there() -> None:
    with pytest.raises(NoDriver, match=r'no driver for the protocol "telepathy": .*modbus'):
        by_protocol("telepathy")


async def test_the_lamp_of_the_examples_is_read_and_written(tmp_path: Path) -> None:
    driver, file = from_file(EXAMPLES / "lamp.py"), tmp_path / "lamp.txt"
    view = lamp(file)
    await driver.open(view)
    with pytest.raises(DeviceUnreachable, match="no lamp here"):
        await driver.read(view, view.properties)
    file.write_text("switch = false\nbrightness=40\n")
    assert await driver.read(view, view.properties) == {"switch": "false", "brightness": "40"}
    await driver.write(view, view.properties[0], "true")
    assert file.read_text() == "switch = true\nbrightness = 40\n"
    await driver.close(view)


async def test_a_lamp_without_a_file_is_named() -> None:
    driver = from_file(EXAMPLES / "lamp.py")
    with pytest.raises(BadConfig, match=r"configData\.file: is missing"):
        await driver.read(DeviceView("default", "lamp", "lamp"), ())


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1\n", "should define one subclass of canopy.mapper.sdk.Driver, but defines none"),
        (SDK + "class A(Driver): protocol = 'a'\nclass B(Driver): protocol = 'b'\n", "but defines A, B"),
        (SDK + "class A(Driver): pass\n", 'should say its protocol, like `protocol = "lamp"`'),
        (
            SDK + "class A(Driver):\n  protocol = 'a'\n  def __init__(self, x): pass\n",
            "cannot be made without arguments",
        ),
        ("def (\n", "cannot be loaded: SyntaxError"),
        ("import nothing_of_the_kind\n", "cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_driver_is_said_with_what_would_be_right(tmp_path: Path, source: str, says: str) -> None:
    file = tmp_path / "driver.py"
    file.write_text(source)
    with pytest.raises(NoDriver) as e:
        from_file(file)
    assert says in str(e.value)


def test_a_file_that_is_not_there_or_not_python_is_said(tmp_path: Path) -> None:
    with pytest.raises(NoDriver, match="is not a file"):
        from_file(tmp_path / "none.py")
    (tmp_path / "driver.txt").write_text("")
    with pytest.raises(NoDriver, match=r"its name should end in \.py"):
        from_file(tmp_path / "driver.txt")
