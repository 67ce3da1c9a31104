"""deploy/compose: every unit is there, as hardened as on Kubernetes; each CANOPY_ variable that a container is given is
a setting of what runs in it; what `make compose-env` writes is complete and kept, and compose reads it."""

import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_settings import settings_of

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS
from canopy.runtime.settings import variables

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose"
FILES = ("compose.yaml", "compose.observability.yaml")
NOT_OURS = {"redis", "collector", "traces", "prometheus"}


def _prepare() -> Any:
    spec = importlib.util.spec_from_file_location("compose_prepare", COMPOSE / "prepare.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


prepare = _prepare()


def services(file: str = FILES[0]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((COMPOSE / file).read_text())["services"]
    return found


def image_of(service: dict[str, Any]) -> str:
    """The image's name between the prefix and the tag."""
    return str(service["image"]).replace("${CANOPY_PREFIX:-canopy/}", "").partition(":$")[0]


OURS = [(name, one) for name, one in services().items() if name not in NOT_OURS]


def test_every_unit_is_there_split_and_folded_and_every_profile() -> None:
    images = {image_of(one) for _, one in OURS}
    assert {*CLOUD_UNITS, *EDGE_UNITS, "edge", "nats", "kubeserve", "light"} == images
    profiles = {profile for one in services().values() for profile in one["profiles"]}
    assert profiles == {"cloud", "hub-cluster", "kubeserve", "edge-split", "edge-folded"}
    assert all(services()[unit]["scale"] == 2 for unit in CLOUD_UNITS)


@pytest.mark.parametrize("file", FILES)
def test_every_container_is_bounded_and_may_do_nothing_that_it_need_not(file: str) -> None:
    for name, one in services(file).items():
        if file != FILES[0] and name in services():
            continue  # it only adds to that one
        assert one["read_only"] and one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["mem_limit"] and one["pids_limit"] and one["logging"]["options"]["max-size"], name
        assert one["restart"] == "unless-stopped", name
        assert not re.match(r"(0|root)\b", str(one["user"])), name
        assert "privileged" not in one and "depends_on" not in one, name
        assert not str(one["image"]).endswith(":latest"), name


@pytest.mark.parametrize("file", FILES)
def test_every_port_is_published_on_loopback(file: str) -> None:
    for name, one in services(file).items():
        for port in one.get("ports", ()):
            assert re.search(r":-127\.0\.0\.1:", port), f"{name}: {port}"


@pytest.mark.parametrize(("name", "one"), OURS)
def test_what_a_container_is_told_is_a_setting_of_what_runs_in_it(name: str, one: dict[str, Any]) -> None:
    image, told = image_of(one), {k for k in one.get("environment", {}) if k.startswith("CANOPY_")}
    if image in ("nats", "kubeserve", "light"):
        config = "".join(prepare.files(prepare.environment({}, prepare.NODES, False, False)).values())
        assert told <= set(re.findall(r"\$(CANOPY_[A-Z0-9_]+)", config)), name
        return
    units = EDGE_UNITS if image == "edge" else (image,)
    known = {variable for cls in settings_of(units) for variable, _, _ in variables(cls)}
    assert told <= known, name


def test_every_variable_of_compose_is_one_that_is_written_or_has_a_default() -> None:
    written = prepare.environment({}, prepare.NODES, False, False)
    for file in FILES:
        for name, default in re.findall(r"\$\{([A-Z0-9_]+)(:-)?", (COMPOSE / file).read_text()):
            assert default or name in written, name


def test_what_is_there_stays_and_a_new_node_is_added_to_the_hub_only() -> None:
    first = prepare.environment({}, prepare.NODES, False, False)
    mine = {**first, "CANOPY_API_LISTEN": "127.0.0.1:9000", "COMPOSE_PROFILES": "cloud,kubeserve,edge-folded"}
    second = prepare.environment(mine, (*prepare.NODES, "a.b"), True, False)
    kept = {k for k in first if "PASSWORD" in k or k.endswith("TOKEN")}
    assert {k: second[k] for k in kept} == {k: first[k] for k in kept}
    assert second["CANOPY_API_LISTEN"] == "127.0.0.1:9000"
    assert second["COMPOSE_PROFILES"] == "cloud,hub-cluster,kubeserve,edge-folded"
    before, after = prepare.files(first), prepare.files(second)
    assert [path for path in before if before[path] != after[path]] == ["hub/nodes/NODES-13.conf"]


def test_passwords_stand_in_the_environment_and_in_the_files_of_the_nodes_only() -> None:
    env = prepare.environment({}, prepare.NODES, False, False)
    secrets = {v for k, v in env.items() if "PASSWORD" in k or k.endswith("TOKEN")} | set(
        prepare.nodes_of(env).values()
    )
    for path, text in prepare.files(env).items():
        assert path.startswith("hub/nodes/") or not any(secret in text for secret in secrets), path


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose here")
@pytest.mark.parametrize("files", [FILES[:1], FILES])
@pytest.mark.parametrize("clustered", [False, True])
def test_compose_reads_it(tmp_path: Path, files: tuple[str, ...], clustered: bool) -> None:
    for file in FILES:
        shutil.copy(COMPOSE / file, tmp_path)
    prepare.written(tmp_path, prepare.environment({}, prepare.NODES, clustered, False))
    names = [word for file in files for word in ("-f", file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CANOPY_", "COMPOSE_"))}
    read = subprocess.run(
        ["docker-compose", *names, "config"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert not read.returncode, read.stderr
    found = yaml.safe_load(read.stdout)["services"]
    urls = found["cloudhub"]["environment"]["CANOPY_NATS_URL"].split(",")
    assert (len(urls), "collector" in found) == (3 if clustered else 1, len(files) > 1)
