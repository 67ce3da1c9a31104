"""What an image holds, and above all what it does not."""

import re

import pytest
from image_box import EDGES, MADE_HERE, PYTHONS, ROOT, TABLE, UNITS, USER, docker, inside, inspected, pinned

pytestmark = pytest.mark.images
MB = 1_000_000
MOST_OVER_THE_BASE_MB = 90
NOT_AT_THE_EDGE = {"kubernetes", "fastapi", "aiohttp", "redis", "uvicorn", "grpc", "nkeys", "typer", "rich"}
BEHIND_A_DOOR = {
    "canopy.store": {"redis", "aiosqlite"},
    "canopy.kube": {"kubernetes", "aiohttp"},
    "canopy.identity": {"grpc", "google", "nkeys", "nacl"},
}
"""What a unit does not use: its image holds the library's door and not what stands behind it."""
CALLED = {"google": "protobuf", "grpc": "grpcio", "nacl": "pynacl"}
OF_THE_DEMO = re.compile(r".*No module named 'canopy\.(testing|kubeserve|kube)\b")
"""`canopy demo` needs a checkout, or the extra `demo`; its modules stand beside the other commands."""


@pytest.mark.parametrize("image", MADE_HERE)
def test_nobody_is_root_and_the_labels_say_where_it_comes_from(image: str) -> None:
    config = inspected(image)["Config"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    assert config["User"] == USER and inside(image)["user"] == [65532, 65532]
    assert labels["title"] == f"canopy/{image}" and labels["licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["revision"]) and labels["version"] == "0.1.0"
    assert re.match(r"\d{4}-\d\d-\d\dT", labels["created"]) and labels["base.name"] and "source" in labels


@pytest.mark.parametrize("image", MADE_HERE)
def test_nothing_that_installs_or_compiles_is_inside(image: str) -> None:
    found = inside(image)
    assert found["programs"] == []
    assert not {"pip", "ensurepip", "setuptools", "wheel"} & set(found["modules"])


@pytest.mark.parametrize("image", MADE_HERE)
def test_its_files_are_bare_compiled_and_cannot_be_written(image: str) -> None:
    found = inside(image)
    assert (found["tests"], found["writable"], found["uncompiled"]) == ([], [], [])


@pytest.mark.parametrize("image", PYTHONS)
def test_it_holds_what_its_pins_name_and_nothing_else(image: str) -> None:
    here = {re.sub(r"[-_.]+", "-", n).lower() for n in inside(image)["packages"]}
    assert here - {"async-timeout"} == pinned(TABLE[image]["pins"])


@pytest.mark.parametrize("image", PYTHONS)
def test_it_holds_its_own_packages_of_canopy_and_each_module_of_them_can_be_loaded(image: str) -> None:
    found = inside(image)
    assert set(found["canopy"]) == {package.split("/")[0] for package in TABLE[image]["packages"]}
    broken = {n: e for n, e in found["broken"].items() if not (image == "cli" and OF_THE_DEMO.match(e))}
    assert {n: e for n, e in broken.items() if not closed_door(image, n, e)} == {}


def closed_door(image: str, module: str, error: str) -> bool:
    """Whether a module cannot be loaded for want of what this image need not hold: its pins do not name it."""
    missing = (re.search(r"No module named '(\w+)", error) or [""] * 2)[1]
    library = ".".join(module.split(".")[:2])
    return missing in BEHIND_A_DOOR.get(library, ()) and CALLED.get(missing, missing) not in pinned(
        TABLE[image]["pins"]
    )


@pytest.mark.parametrize("image", EDGES)
def test_an_edge_holds_nothing_of_the_cloud(image: str) -> None:
    found = inside(image)
    assert not NOT_AT_THE_EDGE & set(found["modules"])
    assert not {"cloudhub", "devicecontroller", "edgecontroller", "kube", "kubeserve", "cli"} & set(found["canopy"])


def test_drivers_are_found_where_mappers_are_and_nowhere_else() -> None:
    assert {image: inside(image)["drivers"] for image in UNITS if inside(image)["drivers"]} == {
        "mapper": ["modbus"],
        "edge": ["modbus"],
    }


@pytest.mark.parametrize("image", UNITS)
def test_a_unit_tells_its_health_by_itself_and_is_not_told_to_be_insecure(image: str) -> None:
    config = inspected(image)["Config"]
    settings = dict(entry.split("=", 1) for entry in config["Env"])
    assert config["Healthcheck"]["Test"] == ["CMD", "python3", "-m", "canopy.launch", "--health"]
    assert config["Entrypoint"] == ["python3", "-m", "canopy.launch"] and not config["Cmd"]
    assert settings["CANOPY_UNITS"] == TABLE[image]["units"]
    assert settings["CANOPY_HEALTH_LISTEN"] == "0.0.0.0:8081" and settings["CANOPY_DATA_DIR"] == "/var/lib/canopy"
    assert not [key for key in settings if "INSECURE" in key or "PASSWORD" in key or "TOKEN" in key]


@pytest.mark.parametrize("image", [*EDGES, "nats"])
def test_what_goes_to_an_edge_is_small(image: str) -> None:
    assert inspected(image)["Size"] - base_bytes(image) < MOST_OVER_THE_BASE_MB * MB


def base_bytes(image: str) -> int:
    """Of the base that an image names in its label."""
    base = inspected(image)["Config"]["Labels"]["org.opencontainers.image.base.name"]
    return int(docker("image", "inspect", "-f", "{{.Size}}", base))


def test_the_layer_that_all_share_is_one() -> None:
    """A node that pulls four units pulls their common packages once."""
    layers = [inspected(image)["RootFS"]["Layers"] for image in UNITS]
    assert len({tuple(each[:3]) for each in layers}) == 1, "base, what was taken from it, and core/"


def test_every_image_of_the_table_has_a_row_in_the_readme() -> None:
    readme = (ROOT / "deploy/images/README.md").read_text()
    assert [image for image in TABLE if f"| {image} |" not in readme] == []
