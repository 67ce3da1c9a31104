"""deploy/compose: every unit is there, as hardened as on Kubernetes; whom SPIRE is told to know is who runs there; what
a container is told is a setting of what runs in it; what `make compose-env` writes is complete and kept."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import registered
import yaml
from rendering import ROOT
from test_settings import settings_of

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.identity import keys
from canopy.runtime.settings import variables
from canopy.spire_integration import entries

COMPOSE = ROOT / "deploy/compose"
FILES = ("compose.yaml", "compose.observability.yaml")
TD = "fleet.test"
PLAIN = ("nats", "identity", "kubeserve", "light", "spire-server", "spire-agent", "cli")
"""Images that run no unit."""
prepare = registered.module(COMPOSE / "prepare.py")


def read(file: str = FILES[0]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((COMPOSE / file).read_text())
    return found


def image_of(service: dict[str, Any]) -> str:
    """The image's name between the prefix and the tag."""
    return str(service["image"]).replace("${CANOPY_PREFIX:-canopy/}", "").partition(":$")[0]


SERVICES: dict[str, dict[str, Any]] = read()["services"]
OURS = {name: one for name, one in SERVICES.items() if name != "redis"}


def _first() -> str:
    return (COMPOSE / "spire/first").read_text()


def _kept() -> tuple[entries.Entry, ...]:
    return entries.read((COMPOSE / "spire/entries.json").read_bytes(), TD)


def _group(service: str) -> str:
    return str(SERVICES[service]["user"]).partition(":")[2]


def test_every_unit_of_the_cloud_is_there_twice_and_a_node() -> None:
    images = {image_of(one) for one in OURS.values()}
    assert images == {*CLOUD_UNITS, SPIRE_INTEGRATION, "edge", *PLAIN}
    assert all(SERVICES[unit.replace("_", "-")]["scale"] == 2 for unit in (*CLOUD_UNITS, SPIRE_INTEGRATION))


@pytest.mark.parametrize("file", FILES)
def test_every_container_is_bounded_and_may_do_nothing_that_it_need_not(file: str) -> None:
    for name, one in read(file)["services"].items():
        if file != FILES[0] and name in SERVICES:
            continue  # it only adds to that one
        assert one["read_only"] and one["cap_drop"] == ["ALL"], name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["mem_limit"] and one["pids_limit"] and one["logging"]["options"]["max-size"], name
        assert one["restart"] == "unless-stopped", name
        assert not re.match(r"(0|root)\b", str(one["user"])), name
        assert "privileged" not in one and "depends_on" not in one, name
        assert not str(one["image"]).endswith(":latest"), name
        assert all(re.search(r":-127\.0\.0\.1:", port) for port in one.get("ports", ())), name
    assert [name for name, one in SERVICES.items() if one.get("pid") == "host"] == ["spire-agent"]


def test_a_group_is_one_unit_s_and_its_helper_s() -> None:
    groups = {entry.id.path: dict(s.split(":")[1:] for s in entry.selectors)["gid"] for entry in _kept()}
    own = next(word for word in registered.words(_first())["cloud/spire_integration"] if word.startswith("unix:gid:"))
    groups["/cloud/spire_integration"] = own.rpartition(":")[2]
    assert len(set(groups.values())) == len(groups) == len(CLOUD_UNITS) + 2
    for path, group in groups.items():
        service = path.rpartition("/")[2].replace("_", "-")
        same = {name for name in SERVICES if _group(name) == group}  # the hub shows its certificate and proves nothing
        assert same == {f"{service}-identity", *({service} if service != "hub" else ())}, path


def test_what_is_registered_first_is_what_is_kept_later() -> None:
    registered.agree(_first(), _kept(), TD)


def test_an_identity_is_in_memory_and_only_its_unit_and_its_helper_see_it() -> None:
    volumes = read()["volumes"]
    for name in [name for name in SERVICES if name.endswith("-identity")]:
        volume = f"identity-{name.removesuffix('-identity')}"
        assert volumes[volume]["driver_opts"]["type"] == "tmpfs" and "mode=0700" in volumes[volume]["driver_opts"]["o"]
        holders = {n for n, one in SERVICES.items() if any(v.startswith(f"{volume}:") for v in one.get("volumes", ()))}
        assert holders == {name, name.removesuffix("-identity")}
        assert SERVICES[name]["network_mode"] == "none"


@pytest.mark.parametrize("name", OURS)
def test_what_a_unit_is_told_is_a_setting_of_it_and_no_password_of_nats(name: str) -> None:
    image = image_of(SERVICES[name])
    told = {k for k in SERVICES[name].get("environment", {}) if k.startswith("CANOPY_")}
    if image in PLAIN:
        assert all(k.startswith("CANOPY_NKEY_") or k == "CANOPY_ADMIN_SOCKET" for k in told)
        return
    units = (EDGEIDENTITY, *EDGE_UNITS) if image == "edge" else (image,)
    known = {variable for cls in settings_of(units) for variable, _, _ in variables(cls)}
    assert told <= known | {"CANOPY_UNITS"}
    assert not [k for k in told if "PASSWORD" in k or k.endswith("NATS_USER")]


def test_what_is_prepared_is_complete_and_kept(tmp_path: Path) -> None:
    first = prepare.written(tmp_path, TD)
    kept = {p: p.read_bytes() for p in (tmp_path / "generated").rglob("*") if p.is_file()}
    assert prepare.written(tmp_path, "other.test") == first and first["CANOPY_TRUST_DOMAIN"] == TD
    assert {p: p.read_bytes() for p in kept} == kept
    assert "password" not in (tmp_path / "generated/hub.conf").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0 and (tmp_path / "generated").stat().st_mode & 0o077 == 0
    keys.load((tmp_path / "generated/agent.key").read_bytes())
    for file in FILES:
        for name, default in re.findall(r"\$\{([A-Z0-9_]+)(:-)?", (COMPOSE / file).read_text()):
            assert default or name in first, name


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose here")
@pytest.mark.parametrize("files", [FILES[:1], FILES])
def test_compose_reads_it(tmp_path: Path, files: tuple[str, ...]) -> None:
    for file in FILES:
        shutil.copy(COMPOSE / file, tmp_path)
    prepare.written(tmp_path, TD)
    names = [word for file in files for word in ("-f", file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CANOPY_", "COMPOSE_"))}
    ran = subprocess.run(
        ["docker-compose", *names, "config"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert not ran.returncode, ran.stderr
    assert ("collector" in yaml.safe_load(ran.stdout)["services"]) == (len(files) > 1)
