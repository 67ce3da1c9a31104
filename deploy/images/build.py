"""`make images`: builds what images.toml lists, and says how large each is beyond its base.

Called by the Makefile, the tests and the bundle; every wish is an environment variable: IMAGES, PLATFORMS, TAG,
IMAGE_PREFIX, BASE_IMAGE, OWNER, DOCKER. Exit code 0: all built; 1: something is missing, in one line.
"""

import fcntl
import hashlib
import json
import os
import platform as machine
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trees import ROOT, WHEELS, NoTree, prepare, spire_cache

HERE = Path(__file__).parent
TABLE: dict[str, dict[str, Any]] = tomllib.loads((HERE / "images.toml").read_text())
PUBLIC_BASE = "python:3.11-slim-bookworm"
PULL_SECONDS = 300
NATIVE = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "arm64": "linux/arm64"}.get(machine.machine(), "")
MB = 1_000_000
MADE_FROM = "dev.canopy.made-from"
SOURCES = ("libs", "services", "requirements", "deploy/images", "pyproject.toml")


class Missing(Exception):
    """What stands in the way, in one line."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to build, from the environment."""

    images: tuple[str, ...]
    platforms: tuple[str, ...]
    tag: str
    prefix: str
    base: str
    owner: str
    docker: str

    @classmethod
    def of(cls, given: dict[str, str]) -> "Wish":
        """Raises Missing for an image or a platform that is none."""
        images = tuple(given.get("IMAGES", "").split()) or tuple(TABLE)
        platforms = tuple(given.get("PLATFORMS", "").replace(",", " ").split()) or (NATIVE,)
        if unknown := [i for i in images if i not in TABLE]:
            raise Missing(f"IMAGES: there is no image {', '.join(unknown)}; there are {', '.join(TABLE)}")
        if unknown := [p for p in platforms if p not in WHEELS]:
            raise Missing(f"PLATFORMS: {', '.join(unknown)} is none of {', '.join(WHEELS)}")
        plain = {"TAG": "dev", "IMAGE_PREFIX": "canopy/", "BASE_IMAGE": "", "OWNER": "0:0", "DOCKER": "docker"}
        tag, prefix, base, owner, docker = (given.get(name) or default for name, default in plain.items())
        return cls(images, platforms, tag, prefix, base, owner, docker)

    def name(self, image: str, platform: str) -> str:
        """Several platforms of one tag need a registry's manifest list; here each bears its architecture."""
        suffix = "" if platform == NATIVE else f"-{platform.removeprefix('linux/')}"
        return f"{self.prefix}{image}:{self.tag}{suffix}"


def main() -> None:
    """All that is wished."""
    wish = Wish.of(dict(os.environ))
    if subprocess.run(["bash", HERE / "engine.sh", "--check"]).returncode:
        sys.exit(1)
    with _alone():
        for platform in wish.platforms:
            _platform(wish, platform)
    for image in wish.images:  # what these names meant before, and stages that nobody named
        _said(wish, "image", "prune", "--force", "--filter", f"label=org.opencontainers.image.title=canopy/{image}")


@contextmanager
def _alone() -> Iterator[None]:
    """Two builds at once would take each other's contexts away."""
    folder = ROOT / "build" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _platform(wish: Wish, platform: str) -> None:
    base, public = _base(wish, platform)
    _same_python(wish, base)
    if not _runs(wish, base, platform):
        raise Missing(f"{platform} cannot be built: this engine does not run its programs (qemu-user-static, binfmt)")
    print(f"== images for {platform} on {base}")
    for number, image in enumerate(wish.images, 1):
        print(f"[{number}/{len(wish.images)}] {wish.name(image, platform)}", end=" ", flush=True)
        if TABLE[image].get("target") == "redis":
            print(_redis(wish, wish.name(image, platform), public or platform != NATIVE))
            continue
        if lacking := not_built(TABLE[image], platform):
            print(lacking)
            continue
        news = _build(wish, image, platform, base)
        print(f"{_over(wish, wish.name(image, platform), base) / MB:.1f} MB over the base{news}")


def _base(wish: Wish, platform: str) -> tuple[str, bool]:
    """The base for this platform, and whether it was pulled: what is named, the public one, or one of our own."""
    wanted = wish.base or PUBLIC_BASE
    if _has(wish, wanted, platform) or _pulled(wish, wanted, platform):
        return wanted, not wanted.startswith("canopy/base")
    if wish.base:
        raise Missing(f"BASE_IMAGE {wish.base} is not here for {platform} and cannot be pulled")
    print(f"{wanted} cannot be pulled: the base is made by deploy/images/base.sh", file=sys.stderr)
    made = subprocess.run(["bash", HERE / "base.sh", platform], stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise Missing(f"no base for {platform}: {wanted} cannot be pulled, and base.sh could make none")
    return made.stdout.strip(), False


def _has(wish: Wish, image: str, platform: str) -> bool:
    found = _said(wish, "image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", image)
    return found == platform


def _pulled(wish: Wish, image: str, platform: str) -> bool:
    command = [wish.docker, "pull", "--quiet", "--platform", platform, image]
    try:
        return not subprocess.run(command, capture_output=True, timeout=PULL_SECONDS).returncode
    except subprocess.TimeoutExpired:
        return False


def _same_python(wish: Wish, base: str) -> None:
    """Byte code and wheels are this Python's; tests ran on it too."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    variables = json.loads(_said(wish, "image", "inspect", "-f", "{{json .Config.Env}}", base) or "[]")
    theirs = next((v.partition("=")[2] for v in variables if v.startswith("PYTHON_VERSION=")), ours)
    if theirs.split(".")[:2] != ours.split("."):
        raise Missing(f"{base} has Python {theirs}, .venv {ours}: take PYTHON=python{theirs[:4]} or another BASE_IMAGE")


def _runs(wish: Wish, base: str, platform: str) -> bool:
    if platform == NATIVE:
        return True
    command = [wish.docker, "run", "--rm", "--platform", platform, "--network", "none", base, "true"]
    return not subprocess.run(command, capture_output=True).returncode


def _build(wish: Wish, image: str, platform: str, base: str) -> str:
    """Build it, unless one from the very same files and arguments bears the name already."""
    row, name = TABLE[image], wish.name(image, platform)
    revision, moment, stamp = commit()
    context = prepare(image, row, platform, ROOT / "build" / "images", cache(), moment)
    arguments = {
        "BASE_IMAGE": base,
        "UNITS": row.get("units", ""),
        "OWNER": wish.owner,
        "TITLE": image,
        "VERSION": version(),
        "REVISION": revision,
        "CREATED": stamp,
        "SOURCE": os.environ.get("SOURCE", ""),
    }
    made_from = _digest(context, arguments, _said(wish, "image", "inspect", "-f", "{{.Id}}", base))
    if _said(wish, "image", "inspect", "-f", f'{{{{index .Config.Labels "{MADE_FROM}"}}}}', name) == made_from:
        return ", as it was"
    command = [wish.docker, "build", "--quiet", "--platform", platform, "--target", row.get("target", "unit")]
    command += [part for key, value in arguments.items() for part in ("--build-arg", f"{key}={value}")]
    command += ["--label", f"{MADE_FROM}={made_from}", "-f", str(HERE / "Dockerfile"), "-t", name, str(context)]
    environment = {**os.environ, "DOCKER_BUILDKIT": _buildkit(wish), "SOURCE_DATE_EPOCH": str(moment)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    if ended.returncode:
        raise Missing(f"{image} was not built:\n{ended.stdout}{ended.stderr}")
    return ""


def _buildkit(wish: Wish) -> str:
    """The builder of old engines where buildx is missing; the Dockerfile works with both."""
    return "0" if subprocess.run([wish.docker, "buildx", "version"], capture_output=True).returncode else "1"


def _digest(context: Path, arguments: dict[str, str], base: str) -> str:
    """Of all that an image is made from."""
    found = hashlib.sha256(json.dumps([arguments, base]).encode() + (HERE / "Dockerfile").read_bytes())
    for path in sorted(context.rglob("*")):
        stat = path.stat()
        found.update(f"{path.relative_to(context)} {stat.st_mode:o} {stat.st_mtime_ns}\n".encode())
        found.update(path.read_bytes() if path.is_file() else b"")
    return found.hexdigest()


def _redis(wish: Wish, name: str, public: bool) -> str:
    if public:
        return "left out: the official image is used where images can be pulled, and for other platforms"
    ended = subprocess.run(["bash", HERE / "base.sh", "--redis", name], stdout=subprocess.PIPE)
    if ended.returncode:
        raise Missing(f"{name} was not made")
    return "made by base.sh"


def not_built(row: dict[str, Any], platform: str) -> str:
    """Why an image is left out whose program only a build of its own makes; "" if there is none."""
    program = row.get("built", "")
    if not program or (platform == NATIVE and (spire_cache() / program).is_file()):
        return ""
    return f"left out: no {program} for {platform} in {spire_cache()}; tests/spire/build.sh builds it for this machine"


def _over(wish: Wish, name: str, base: str) -> int:
    """Bytes that the image holds beyond its base."""
    sizes = [int(_said(wish, "image", "inspect", "-f", "{{.Size}}", image) or 0) for image in (name, base)]
    return sizes[0] - sizes[1]


def _said(wish: Wish, *arguments: str) -> str:
    return subprocess.run([wish.docker, *arguments], capture_output=True, text=True).stdout.strip()


def commit() -> tuple[str, int, str]:
    """(revision, seconds since 1970, RFC 3339) of the last commit of what images are made from."""
    said = _git("log", "-1", "--format=%H %ct %cI").split()
    if len(said) != 3:
        return "unknown", 0, "1970-01-01T00:00:00+00:00"
    return said[0] + ("-changed" if _git("status", "--porcelain") else ""), int(said[1]), said[2]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments, "--", *SOURCES]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def version() -> str:
    """Of the project."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def cache() -> Path:
    """What is made once, outside the checkout."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CANOPY_IMAGE_CACHE") or Path(home) / "canopy-images")


if __name__ == "__main__":
    try:
        main()
    except (Missing, NoTree) as e:
        sys.exit(f"make images: {e}")
