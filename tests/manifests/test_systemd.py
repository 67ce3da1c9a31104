"""An edge on a plain machine: the units' files, and what passwords.sh writes for them."""

import configparser
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rendering import ROOT

from canopy.cli import joined, nats
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.runtime.settings import Shared, load, variables
from canopy.testing.servers import nats_binary

SYSTEMD = ROOT / "deploy/systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
PASSWORD = "p0123abc"


def service(path: Path) -> configparser.SectionProxy:
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment]
    read.read(path)
    return read["Service"]


def written(folder: Path, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    command = ["bash", SYSTEMD / "passwords.sh", "edge-7", "hub:7422"]
    environment = {**os.environ, "CANOPY_ETC": str(folder)}
    return subprocess.run(command, env=environment, input=f"{password}\n", capture_output=True, text=True, timeout=30)


def lines(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text().splitlines())


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_a_service_has_no_rights_and_sees_little_of_the_machine(path: Path) -> None:
    found = service(path)
    assert found["User"] == "canopy" and found["NoNewPrivileges"] == "yes" and found["CapabilityBoundingSet"] == ""
    assert found["ProtectSystem"] == "strict" and found["Restart"] == "always" and found["MemoryMax"]


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_systemd_understands_every_line(path: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    for each in UNITS:  # with what this machine has, a user and a program
        text = re.sub(r"^(User|Group)=canopy$", r"\1=root", each.read_text(), flags=re.M)
        (tmp_path / each.name).write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/sh", text))
    command = ["systemd-analyze", "verify", tmp_path / path.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_edge_service_runs_all_edge_units() -> None:
    assert tuple(service(SYSTEMD / "canopy-edge.service")["ExecStart"].split()[3:]) == EDGE_UNITS
    with_identity = service(SYSTEMD / "identity/canopy-edge.conf")["ExecStart"].split()[3:]
    assert tuple(with_identity) == (EDGEIDENTITY, *EDGE_UNITS)


def test_a_joined_node_s_services_read_what_joining_and_edgeidentity_write() -> None:
    place = joined.Place(Path("/var/lib/canopy/node"))
    edge, leaf = (service(SYSTEMD / f"identity/canopy-{name}.conf") for name in ("edge", "leaf"))
    assert edge["EnvironmentFile"] == str(place.settings)
    assert leaf["ExecStart"].split()[-1] == str(place.config) and str(place.config) in leaf["ExecStartPre"]


@pytest.mark.parametrize("path", UNITS, ids=lambda p: p.stem)
def test_systemd_understands_a_joined_node_s_services_too(path: Path, tmp_path: Path) -> None:
    if not shutil.which("systemd-analyze"):
        pytest.skip("no systemd-analyze here")
    for each in UNITS:
        text = re.sub(r"^(User|Group)=canopy$", r"\1=root", each.read_text(), flags=re.M)
        (tmp_path / each.name).write_text(re.sub(r"ExecStart=\S+", "ExecStart=/bin/sh", text))
        more = (SYSTEMD / "identity" / f"{each.stem}.conf").read_text()
        folder = tmp_path / f"{each.name}.d"
        folder.mkdir()
        (folder / "identity.conf").write_text(re.sub(r"ExecStart=/\S+", "ExecStart=/bin/sh", more))
    command = ["systemd-analyze", "verify", tmp_path / path.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_what_is_written_are_settings_that_the_units_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert written(tmp_path).returncode == 0
    given = lines(tmp_path / "edge.env")
    assert given.keys() <= {name for name, _, _ in variables(Shared)}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    shared = load(Shared)
    assert shared.node_name == "edge-7" and shared.nats_user == "edge"
    assert shared.nats_password.get_secret_value() == lines(tmp_path / "leaf.env")["CANOPY_PASSWORD_EDGE"]


def test_nats_server_takes_the_leaf_s_file_with_what_is_written(tmp_path: Path) -> None:
    assert written(tmp_path).returncode == 0
    nats.leaf("edge-7", mqtt="0.0.0.0:1883", store=str(tmp_path / "store"), to=str(tmp_path / "leaf.conf"))
    given = lines(tmp_path / "leaf.env")
    assert given["CANOPY_HUB_URL"] == f"nats-leaf://edge-7:{PASSWORD}@hub:7422"
    command = [nats_binary(), "-t", "-c", tmp_path / "leaf.conf"]
    ran = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr


def test_passwords_are_for_root_only_and_are_not_made_twice(tmp_path: Path) -> None:
    assert written(tmp_path).returncode == 0
    before = (tmp_path / "leaf.env").read_text()
    again = written(tmp_path)
    assert again.returncode == 1 and "is there" in again.stderr and (tmp_path / "leaf.env").read_text() == before
    assert all((tmp_path / name).stat().st_mode & 0o007 == 0 for name in ("leaf.env", "edge.env"))


def test_what_cannot_be_the_node_s_password_is_refused(tmp_path: Path) -> None:
    for wrong in ("", "12e3", "p a"):
        assert written(tmp_path, wrong).returncode == 1
    assert list(tmp_path.iterdir()) == []
