"""How images are made: the same from the same, and one line where something is missing."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from image_box import ROOT

sys.path.insert(0, str(ROOT / "deploy/images"))
import bundle
import wheels
from build import TABLE, cache
from trees import WHEELS, prepare

pytestmark = pytest.mark.images


def made(**wishes: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, ROOT / "deploy/images/build.py"],
        env={**os.environ, **wishes},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return ended.returncode, ended.stderr


def digest(folder: Path) -> str:
    """Of every file's name, mode, time and bytes."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        stat = path.stat()
        found.update(f"{path.relative_to(folder)} {stat.st_mode:o} {int(stat.st_mtime)}".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


@pytest.mark.parametrize("image", ["edge", "nats"])
def test_the_same_commit_makes_the_same_files(image: str, tmp_path: Path) -> None:
    one, two = (prepare(image, TABLE[image], "linux/amd64", tmp_path / n, cache(), 1_700_000_000) for n in "ab")
    assert digest(one) == digest(two)


@pytest.mark.parametrize("platform", WHEELS)
def test_every_platform_has_wheels_of_every_pin_and_programs_of_its_own(platform: str, tmp_path: Path) -> None:
    machine = {"linux/amd64": b"\x3e\x00", "linux/arm64": b"\xb7\x00"}[platform]
    for image in ("edge", "cloudhub", "nats"):
        context = prepare(image, TABLE[image], platform, tmp_path, cache(), 0)
        programs = [p for p in context.rglob("*") if p.suffix == ".so" or p.name == "nats-server"]
        assert programs and all(p.read_bytes()[18:20] == machine for p in programs)


def test_without_an_engine_one_line_says_what_is_missing() -> None:
    code, said = made(DOCKER="/nonexistent/docker")
    assert code != 0 and len(said.strip().splitlines()) == 1 and "deploy/images/engine.sh" in said


def test_what_a_machine_that_tried_compose_keeps_secret_is_in_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    for name in ("deploy/compose/.env", "deploy/compose/generated/keys/sys.seed"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("secret")
    for name in (*bundle.FILES, "deploy/compose/compose.yaml", "deploy/systemd/canopy-edge.service"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text("plain")
    monkeypatch.setattr(bundle, "ROOT", here)
    bundle._collected(tmp_path / "there")
    found = {p.read_text() for p in (tmp_path / "there").rglob("*") if p.is_file()}
    assert found == {"plain"} and (tmp_path / "there/deploy/compose/compose.yaml").exists()


def test_its_wheels_are_all_that_a_machine_without_a_registry_wants_to_be_a_node(tmp_path: Path) -> None:
    made = wheels.collected(_made(tmp_path / "wheels"), "linux/amd64", 1_700_000_000)
    environment = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1"}

    def ran(*words: str | Path) -> str:
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout + ended.stderr

    ran(sys.executable, "-m", "venv", tmp_path / "canopy")
    programs = tmp_path / "canopy/bin"
    ran(programs / "pip", "install", "--no-deps", *(tmp_path / "wheels" / name for name in made))
    ran(programs / "pip", "check")
    assert "--token" in ran(programs / "canopy", "join", "--help")
    assert "CANOPY_EDGEIDENTITY_FOLDER" in ran(programs / "canopy", "run", "edgeidentity", "--settings")
    ran(programs / "python", "-c", "import canopy.devicetwin.unit, canopy.mapper.drivers.modbus")
    assert "nats-server" in ran(programs / "nats-server", "--version")
    assert "callout.seed" in ran(programs / "python", "-c", "from canopy.identity.hubkeys import FILES; print(FILES)")
    ran(programs / "python", ROOT / "deploy/compose/prepare.py", "--folder", tmp_path)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"IMAGES": "edge edgde"}, "IMAGES: there is no image edgde; there are cloudhub"),
        ({"PLATFORMS": "linux/s390x"}, "PLATFORMS: linux/s390x is none of linux/amd64, linux/arm64"),
        ({"BASE_IMAGE": "canopy/nowhere:1"}, "BASE_IMAGE canopy/nowhere:1 is not here"),
    ],
)
def test_a_wrong_wish_ends_in_one_line(wishes: dict[str, str], said: str) -> None:
    code, text = made(**wishes)
    assert code != 0 and said in text and len(text.strip().splitlines()) == 1
