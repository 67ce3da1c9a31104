"""An edge on a plain machine: the services read what joining and edgeidentity write, and run what is there."""

import asyncio
import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rendering import ROOT

from canopy.cli import joined
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import write_identity
from canopy.identity.sources import AuthoritySource
from canopy.testing.servers import nats_binary

SYSTEMD = ROOT / "deploy/systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))
PLACE = joined.Place(Path("/var/lib/canopy/node"))
PROGRAMS = "/opt/canopy/bin"


def service(path: Path) -> configparser.SectionProxy:
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment]
    read.read(path)
    return read["Service"]


EDGE, LEAF = (service(SYSTEMD / f"canopy-{name}.service") for name in ("edge", "leaf"))


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
        (tmp_path / each.name).write_text(re.sub(r"(ExecStart(?:Pre)?)=\S+", r"\1=/bin/sh", text))
    command = ["systemd-analyze", "verify", tmp_path / path.name]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_they_are_one_node_in_one_folder_of_its_own() -> None:
    for found in (EDGE, LEAF):
        assert found["EnvironmentFile"] == str(PLACE.settings) and found["StateDirectory"] == "canopy/node"
    assert EDGE["ExecStart"].split() == [f"{PROGRAMS}/python", "-m", "canopy.launch", EDGEIDENTITY, *EDGE_UNITS]
    assert LEAF["ExecStart"].split() == [f"{PROGRAMS}/nats-server", "--config", str(PLACE.config)]


def test_neither_waits_for_what_the_other_makes() -> None:
    """The edge comes after the leaf, so that it ends first; the leaf's start then must not need the edge."""
    assert "After=canopy-leaf.service" in (SYSTEMD / "canopy-edge.service").read_text()
    assert "canopy-edge" not in (SYSTEMD / "canopy-leaf.service").read_text()


def test_nats_server_takes_what_the_leaf_s_first_command_writes_for_a_machine_that_has_joined(tmp_path: Path) -> None:
    """Both commands as the service has them, in another folder; the link has its certificate already."""
    place = joined.Place(tmp_path)
    joined.write_settings(place, "edge-7", "fleet.test", "tls://hub.example:7422")
    environment = {**os.environ, **dict(line.split("=", 1) for line in place.settings.read_text().splitlines())}
    environment |= {"CANOPY_EDGEIDENTITY_SOURCE": "files"}
    asyncio.run(_linked(place, tmp_path / "authority"))
    for line, program in ((LEAF["ExecStartPre"], sys.executable), (LEAF["ExecStart"] + " -t", nats_binary())):
        _, *words = line.replace(str(PLACE.folder), str(tmp_path)).split()
        ran = subprocess.run([program, *words], env=environment, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
    text = place.config.read_text()
    assert '"tls://hub.example:7422"' in text and "spiffe://edge-7.fleet.test/devicetwin" in text
    assert "password" not in text and place.config.stat().st_mode & 0o077 == 0


async def _linked(place: joined.Place, authority: Path) -> None:
    source = AuthoritySource(Builtin(authority, "fleet.test"), ids.node("fleet.test", "edge-7"), ttl_seconds=600)
    write_identity(place.identity / "link", await source.first())
