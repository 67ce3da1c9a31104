"""What `canopy run` takes: units of one plane, settings by name."""

import json
import os

import pytest

from canopy.cli.failure import UsageFailure
from canopy.cli.run import variables
from canopy.launch.units import UNITS


def test_settings_become_the_variables_that_units_read() -> None:
    given = ["node_name=edge-1", "devicetwin.value_max_bytes=10", "nats_url=nats://h:1=x"]
    assert variables(given) == {
        "CANOPY_NODE_NAME": "edge-1",
        "CANOPY_DEVICETWIN_VALUE_MAX_BYTES": "10",
        "CANOPY_NATS_URL": "nats://h:1=x",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("node_name", "should be KEY=VALUE"),
        ("=1", "should be KEY=VALUE"),
        (".x=1", "should be KEY=VALUE"),
        ("foo.x=1", "there is no unit 'foo'"),
        ("node_nam=1", "no shared setting 'node_nam'; there are node_name"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_would_be_right(given: str, said: str) -> None:
    with pytest.raises(UsageFailure, match=said):
        variables([given])


@pytest.fixture
def environment() -> object:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("environment")
def test_a_wrong_value_of_a_shared_setting_ends_with_usage(canopy) -> None:  # type: ignore[no-untyped-def]
    ended = canopy("run", "edgehub", "--set", "health_listen=0.0.0.0:80")
    assert ended.code == 2 and "CANOPY_INSECURE_LISTEN=true" in ended.err


def test_units_and_settings_are_listed_as_json_too(canopy) -> None:  # type: ignore[no-untyped-def]
    units = json.loads(canopy("run", "--list", "--output", "json").out)
    assert {"unit": "devicetwin", "plane": "edge", "does": "the twins, and the MQTT contract"} in units
    settings = json.loads(canopy("run", "devicetwin", "--settings", "--output", "json").out)
    assert "CANOPY_NODE_NAME" in {row["variable"] for row in settings}


def test_units_and_settings_are_listed(canopy) -> None:  # type: ignore[no-untyped-def]
    listed = canopy("run", "--list")
    assert listed.code == 0 and all(name in listed.out for name in UNITS)
    settings = canopy("run", "devicetwin", "--settings")
    assert "CANOPY_DEVICETWIN_VALUE_MAX_BYTES" in settings.out and "CANOPY_NATS_URL" in settings.out


@pytest.mark.parametrize(
    ("names", "said"), [(["edgehup"], "there is no unit 'edgehup'"), (["edgehub", "cloudhub"], "of two planes")]
)
def test_wrong_units_end_with_usage(canopy, names: list[str], said: str) -> None:  # type: ignore[no-untyped-def]
    ended = canopy("run", *names)
    assert ended.code == 2 and said in ended.err


def test_run_without_units_names_them(canopy) -> None:  # type: ignore[no-untyped-def]
    ended = canopy("run")
    assert ended.code == 2 and "cloudhub" in ended.err
