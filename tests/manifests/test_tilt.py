"""The Tiltfile does for each unit what it should, and everything that it names exists."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rendering import ROOT, Pod, no_kubectl, render
from tilt import FOLDER, Tilt

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, SPIRE_INTEGRATION
from canopy.testing.wait import until

IMAGES = tomllib.loads((ROOT / "deploy/images/images.toml").read_text())


@pytest.fixture(scope="module")
def tilt() -> Tilt:
    return Tilt().evaluate()


def pods() -> dict[str, Pod]:
    if missing := no_kubectl():
        pytest.skip(missing)
    return {p.name: p for p in render("dev").pods}


def test_every_unit_is_built_live_and_has_a_resource_and_a_forward(tilt: Tilt) -> None:
    live = {b["ref"].removeprefix("canopy/") for b in tilt.of("custom_build") if b["live_update"]}
    resources = {r["workload"]: r for r in tilt.of("k8s_resource")}
    at = {image: resources[image.replace("_", "-")] for image in live}
    found = {unit for image in live for unit in IMAGES[image]["units"].split() if at[image]["port_forwards"]}
    assert found == {*CLOUD_UNITS, *EDGE_UNITS, SPIRE_INTEGRATION}


def test_a_live_update_syncs_every_package_of_an_image_and_then_restarts(tilt: Tilt) -> None:
    for build in tilt.of("custom_build"):
        if not (steps := build["live_update"]):
            continue
        synced = [s["remote_path"] for s in steps if s["call"] == "sync"]
        packages = IMAGES[build["ref"].removeprefix("canopy/")]["packages"]
        assert synced == [f"/opt/canopy/app/canopy/{p}" for p in packages]
        assert [s["call"] for s in steps] == ["sync"] * len(synced) + ["run"]
        assert {s["local_path"] for s in steps if s["call"] == "sync"} <= set(build["deps"])


def test_every_image_of_the_overlay_is_built_here_and_no_other(tilt: Tilt) -> None:
    used = {c["image"] for pod in pods().values() for c in pod.containers}
    assert {f"{b['ref']}:dev" for b in tilt.of("custom_build")} == used


def test_every_path_exists(tilt: Tilt) -> None:
    paths = [p for b in tilt.of("custom_build") for p in b["deps"]]
    paths += [s["local_path"] for s in tilt.of("sync")] + [k["pathToDir"] for k in tilt.of("kustomize")]
    assert [p for p in paths if not Path(p).exists()] == []


def test_every_workload_is_in_the_overlay_and_none_is_left_out(tilt: Tilt) -> None:
    assert {r["workload"] for r in tilt.of("k8s_resource")} == set(pods())


def test_every_port_is_one_that_a_container_listens_on_and_no_two_are_one_here(tilt: Tilt) -> None:
    taken = []
    for resource in tilt.of("k8s_resource"):
        ports = {p["containerPort"] for c in pods()[resource["workload"]].containers for p in c.get("ports", [])}
        wanted = resource.get("port_forwards", [])
        assert {f["container_port"] for f in wanted} <= ports, resource["workload"]
        taken += [f["local_port"] for f in wanted]
    assert len(taken) == len(set(taken))


def test_every_resource_is_in_a_group(tilt: Tilt) -> None:
    groups = {r["workload"]: r["labels"] for r in tilt.of("k8s_resource")}
    assert {label for labels in groups.values() for label in labels} == {"cloud", "edge", "devices"}
    assert groups["cloudhub"] == ["cloud"] and groups["edge"] == ["edge"] and groups["light"] == ["devices"]


def test_buttons_do_nothing_by_themselves_and_their_commands_exist(tilt: Tilt) -> None:
    buttons = {b["name"]: b for b in tilt.of("local_resource") if b["labels"] == ["buttons"]}
    assert set(buttons) == {"cut the link", "join the link", "flip the light", "run e2e"}
    for button in buttons.values():
        assert button["auto_init"] is False and button["trigger_mode"] == "manual"
    for one in tilt.of("local_resource"):
        assert_runs(one["cmd"])


def assert_runs(command: list[str]) -> None:
    program = command[0]
    assert shutil.which(program) or Path(program).exists() or "/.venv/" in program, program
    if program == "bash":
        script = FOLDER / command[1]
        subprocess.run(["bash", "-n", script], check=True)
    if program == "make":
        assert re.search(rf"^{command[-1]}:", (ROOT / "Makefile").read_text(), re.M), command
    if program == "kubectl":
        kind, name = command[command.index("scale") + 1].split("/")
        assert pods()[name].kind.lower() == kind and pods()[name].namespace == command[2]


def test_what_needs_secrets_waits_for_them(tilt: Tilt) -> None:
    assert all(r["resource_deps"] == ["secrets"] for r in tilt.of("k8s_resource"))


def test_the_programs_of_spire_are_built_before_their_images(tilt: Tilt) -> None:
    """`make images` leaves an image out whose program nobody has built."""
    for build in tilt.of("custom_build"):
        built = IMAGES[build["ref"].removeprefix("canopy/")].get("built")
        assert ("tests/spire/build.sh" in build["command"]) == bool(built), build["ref"]


def test_leaves_know_the_hub_by_the_name_of_the_link(tilt: Tilt) -> None:
    edge = next(c for c in pods()["edge"].containers if c["name"] == "edge")
    url = render("dev").environment(pods()["edge"], edge)["CANOPY_EDGEIDENTITY_HUB_URL"]
    name = url.removeprefix("tls://").partition(":")[0]
    assert f"--hub-names {name}" in (FOLDER / "secrets.sh").read_text()


def test_a_cluster_that_is_not_named_is_not_allowed(tilt: Tilt) -> None:
    assert tilt.of("allow_k8s_contexts") == [] and tilt.of("default_registry") == []
    told = Tilt({"CANOPY_TILT_CONTEXTS": "one,two", "CANOPY_TILT_REGISTRY": "here:5000"}).evaluate()
    assert told.of("allow_k8s_contexts") == [{"contexts": ["one", "two"]}]
    assert told.of("default_registry") == [{"host": "here:5000"}]


RESTART = ROOT / "deploy/k8s/overlays/dev/restart.py"
CHILD = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(60)"


async def test_the_first_process_of_a_dev_container_restarts_the_unit_and_ends_with_it(tmp_path: Path) -> None:
    log, pid = tmp_path / "log", tmp_path / "pid"
    environment = {**os.environ, "RESTART_PID_FILE": str(pid)}
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, RESTART, sys.executable, "-c", CHILD], stdout=out, env=environment)
    try:
        await until(lambda: log.read_text().count("up") == 1)
        os.kill(int(pid.read_text()), signal.SIGHUP)
        await until(lambda: log.read_text().count("up") == 2)
        process.terminate()
        await until(lambda: process.poll() is not None)
        assert process.returncode == 7 and log.read_text().split() == ["up", "restarting", "up"]
    finally:
        process.kill()
