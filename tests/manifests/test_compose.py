"""deploy/compose: every unit is there, as hardened as on Kubernetes; whom SPIRE is told to know is who runs there; what
a container is told is a setting of what runs in it; what `make compose-env` writes is complete and kept."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import registered
import yaml
from rendering import ROOT
from test_settings import settings_of

from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.identity import keys
from canopy.identity.joinroot import endpoint, new
from canopy.runtime.settings import variables
from canopy.spire_integration import entries
from canopy.testing.servers import nats_binary

COMPOSE = ROOT / "deploy/compose"
FILES = ("compose.yaml", "compose.observability.yaml")
NODE_FILES = ("node.yaml", "node.split.yaml")
ADDING = {"compose.observability.yaml": "compose.yaml", "node.split.yaml": "node.yaml"}
"""A file that only adds to services of another."""
SERVERS = ("hub", "hub-2", "hub-3")
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
OURS = {(file, name): one for file in (FILES[0], *NODE_FILES) for name, one in read(file)["services"].items()}
del OURS["compose.yaml", "redis"], OURS["node.split.yaml", "edge"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `make compose-env` leaves it, for a hub of three servers."""
    folder = tmp_path_factory.mktemp("compose")
    prepare.written(folder, TD, servers=3)
    for file in (*FILES, *NODE_FILES):
        shutil.copy(COMPOSE / file, folder)
    return folder


def _first() -> str:
    return (COMPOSE / "spire/first").read_text()


def _kept() -> tuple[entries.Entry, ...]:
    return entries.read((COMPOSE / "spire/entries.json").read_bytes(), TD)


def _group(service: str) -> str:
    return str(SERVICES[service]["user"]).partition(":")[2]


def test_every_unit_is_there_those_of_the_cloud_twice_and_those_of_a_node_folded_and_split() -> None:
    images = {image_of(one) for one in OURS.values()}
    assert images == {*CLOUD_UNITS, SPIRE_INTEGRATION, "edge", *EDGE_UNITS, *PLAIN}
    folded, split = (read(file)["services"]["edge"]["environment"]["CANOPY_UNITS"].split() for file in NODE_FILES)
    assert folded == [EDGEIDENTITY, *EDGE_UNITS] and split == [EDGEIDENTITY]
    assert all(SERVICES[unit.replace("_", "-")]["scale"] == 2 for unit in (*CLOUD_UNITS, SPIRE_INTEGRATION))


@pytest.mark.parametrize("file", [*FILES, *NODE_FILES])
def test_every_container_is_bounded_and_may_do_nothing_that_it_need_not(file: str) -> None:
    for name, one in read(file)["services"].items():
        if file in ADDING and name in read(ADDING[file])["services"]:
            continue
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
        assert same == ({f"{s}-identity" for s in SERVERS} if service == "hub" else {f"{service}-identity", service})


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


def test_a_unit_of_a_split_node_sees_its_own_identity_and_edgeidentity_all_of_them() -> None:
    split = read("node.split.yaml")
    keeps = {volume.split(":")[0]: volume.split(":")[1] for volume in split["services"]["edge"]["volumes"]}
    for unit in EDGE_UNITS:
        volume = f"identity-{unit}"
        assert keeps[volume] == f"/run/canopy/units/{unit}"
        assert split["volumes"][volume]["driver_opts"]["type"] == "tmpfs"
        holders = {n for n, one in split["services"].items() if any(v.startswith(f"{volume}:") for v in one["volumes"])}
        assert holders == {unit, "edge"} and f"{volume}:/run/canopy:ro" in split["services"][unit]["volumes"]


@pytest.mark.parametrize(("file", "name"), OURS)
def test_what_a_unit_is_told_is_a_setting_of_it_and_no_password_of_nats(file: str, name: str, made: Path) -> None:
    one = OURS[file, name]
    image, told = image_of(one), {k for k in one.get("environment", {}) if k.startswith("CANOPY_")}
    if image in PLAIN:
        config = (made / "generated/hub-cluster.conf").read_text() if name in SERVERS else ""
        assert told == set(re.findall(r"\$(CANOPY_[A-Z0-9_]+)", config)) | (told & {"CANOPY_ADMIN_SOCKET"})
        return
    units = (EDGEIDENTITY, *EDGE_UNITS) if image == "edge" else (image,)
    known = {variable for cls in settings_of(units) for variable, _, _ in variables(cls)}
    assert told <= known | {"CANOPY_UNITS"}
    assert not [k for k in told if "PASSWORD" in k or k.endswith("NATS_USER")]


def test_the_hub_s_servers_find_each_other_by_names_that_their_certificate_has() -> None:
    hub = next(entry for entry in _kept() if entry.id.path == "/hub")
    for number, name in enumerate(SERVERS):
        one = SERVICES[name]
        own = one["environment"]["CANOPY_SERVER_NAME"]
        assert own == prepare.SERVERS[number]
        assert {own, "hub"} == {*one["networks"]["cloud"]["aliases"]} == {*one["networks"]["link"]["aliases"]}
        assert one["environment"][f"CANOPY_ROUTE_{number}"].endswith(f"@{own}:6222")
        assert {own, "hub"} <= {*hub.dns}
        assert ("profiles" in one) == (number > 0)


@pytest.mark.parametrize("config", [prepare.ONE, prepare.CLUSTER])
def test_nats_server_takes_the_hub_s_file_with_what_it_is_told(config: str, made: Path, tmp_path: Path) -> None:
    pem = endpoint(new(TD, time.time()), TD, time.time())
    (tmp_path / "svid.pem").write_bytes(pem)
    (tmp_path / "bundle.pem").write_bytes(pem[pem.index(b"-----BEGIN CERT") :])
    text = (made / "generated" / config).read_text()
    (tmp_path / config).write_text(text.replace(prepare.STORE, str(tmp_path)).replace(prepare.IDENTITY, str(tmp_path)))
    env = prepare.read(made / ".env")
    told = {k: re.sub(r"\$\{(\w+)[^}]*\}", lambda m: env[m[1]], v) for k, v in SERVICES["hub"]["environment"].items()}
    command = [nats_binary(), "-t", "-c", tmp_path / config]
    ran = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture
def compose_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, str]]:
    """`make compose-env` with these words, for a folder of the test's own: what .env holds then."""

    def made(*words: str) -> dict[str, str]:
        monkeypatch.setattr(sys, "argv", ["prepare.py", "--folder", str(tmp_path), *words])
        assert prepare.main() == 0
        found: dict[str, str] = prepare.read(tmp_path / ".env")
        return found

    return made


def test_what_is_prepared_is_complete_and_kept(tmp_path: Path, compose_env: Callable[..., dict[str, str]]) -> None:
    first = compose_env("--trust-domain", TD)
    kept = {p: p.read_bytes() for p in (tmp_path / "generated").rglob("*") if p.is_file()}
    assert compose_env("--trust-domain", "other.test") == first and first["CANOPY_TRUST_DOMAIN"] == TD
    assert {p: p.read_bytes() for p in kept} == kept
    assert "password" not in (tmp_path / "generated/hub.conf").read_text()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0 and (tmp_path / "generated").stat().st_mode & 0o077 == 0
    keys.load((tmp_path / "generated/agent.key").read_bytes())
    for file in (*FILES, *NODE_FILES):
        for name, default in re.findall(r"\$\{([A-Z0-9_]+)(:-)?", (COMPOSE / file).read_text()):
            assert default or name in first or name == "NODE", name


def test_wishes_are_kept_until_others_are_said(tmp_path: Path, compose_env: Callable[..., dict[str, str]]) -> None:
    (tmp_path / ".env").write_text("CANOPY_API_LISTEN=127.0.0.1:9000\nCOMPOSE_PROFILES=mine\n")
    (tmp_path / "theirs").write_text("a kubeconfig")
    compose_env("--hub-servers", "3", "--hub-names", "hub.example", "--kubeconfig", str(tmp_path / "theirs"))
    three = compose_env()
    assert three["CANOPY_API_LISTEN"] == "127.0.0.1:9000" and three["COMPOSE_PROFILES"] == "hub-cluster,mine"
    assert (three["CANOPY_COMPOSE_STREAM_REPLICAS"], three["CANOPY_COMPOSE_HUB_CONFIG"]) == ("3", "hub-cluster.conf")
    assert (tmp_path / three["CANOPY_KUBECONFIG_SOURCE"] / "kubeconfig").read_text() == "a kubeconfig"
    first, kept = ((tmp_path / "generated" / name).read_text() for name in ("first", "entries.json"))
    registered.agree(first, entries.read(kept.encode(), TD), TD)
    assert (
        "dns:hub.example" in first
        and '"/var/lib/canopy/hub-1"' in (tmp_path / "generated/hub-cluster.conf").read_text()
    )
    assert compose_env("--hub-servers", "1")["CANOPY_COMPOSE_NATS_URL"] == "tls://hub-1:4222"
    assert '"/var/lib/canopy/hub-2"' in (tmp_path / "generated/hub.conf").read_text()


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose here")
@pytest.mark.parametrize("files", [FILES[:1], FILES, NODE_FILES[:1], NODE_FILES])
def test_compose_reads_it(made: Path, files: tuple[str, ...]) -> None:
    names = [word for file in files for word in ("-f", file)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CANOPY_", "COMPOSE_"))} | {"NODE": "a"}
    ran = subprocess.run(
        ["docker-compose", *names, "config"], cwd=made, env=environment, capture_output=True, text=True, timeout=60
    )
    assert not ran.returncode, ran.stderr
    found = yaml.safe_load(ran.stdout)["services"]
    assert ({"collector", "edgehub"} & found.keys() != set()) == (len(files) > 1)
