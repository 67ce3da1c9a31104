"""The images of `make images` as the tests see them: the table, the engine's command line, one look into each."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "deploy/images"))
from trees import ROOT, spire_cache

TABLE: dict[str, dict[str, Any]] = tomllib.loads((ROOT / "deploy/images/images.toml").read_text())
UNITS = [name for name, row in TABLE.items() if "units" in row]
EDGES = ["edgehub", "metamanager", "devicetwin", "mapper", "edgeidentity", "edge"]
PYTHONS = [name for name, row in TABLE.items() if "pins" in row]
MADE_HERE = [
    name
    for name, row in TABLE.items()
    if row.get("target") != "redis" and ("built" not in row or (spire_cache() / row["built"]).is_file())
]
USER = "65532:65532"
SECONDS = 60

INSIDE = """
import importlib, importlib.metadata as m, importlib.util, json, os, pkgutil, shutil, sys
lib, app = "/opt/canopy/lib", "/opt/canopy/app"
def loaded(name):
    try:
        importlib.import_module(name)
    except Exception as e:
        return f"{type(e).__name__}: {e}"
found = {
    "user": [os.getuid(), os.getgid()],
    "programs": [p for p in sys.argv[1].split() if shutil.which(p)],
    "modules": [n for n in sys.argv[2].split() if importlib.util.find_spec(n)],
    "packages": sorted(d.metadata["Name"] for d in m.distributions(path=[lib])),
    "canopy": sorted(os.listdir(app + "/canopy")) if os.path.isdir(app + "/canopy") else [],
    "drivers": [e.name for e in m.entry_points(group="canopy.drivers")],
    "tests": [p for p, d, _ in os.walk("/opt") if os.path.basename(p) in ("test", "tests")],
    "writable": [p for p, _, _ in os.walk("/opt") if os.access(p, os.W_OK)],
    "uncompiled": [os.path.join(p, f) for p, _, fs in os.walk("/opt") for f in fs if f.endswith(".py")
                   and not os.path.exists(importlib.util.cache_from_source(os.path.join(p, f)))],
}
try:
    import canopy
    names = [i.name for i in pkgutil.walk_packages(canopy.__path__, "canopy.") if not i.name.endswith("__main__")]
    found["broken"] = {n: e for n in names if (e := loaded(n))}
except ImportError:
    pass
print(json.dumps(found))
"""
PROGRAMS = "pip pip3 uv gcc cc c++ g++ make ld as easy_install wheel curl wget git"
MODULES = "pip ensurepip setuptools wheel"
APART = "kubernetes fastapi aiohttp redis uvicorn grpc nkeys typer rich"


def name(image: str) -> str:
    """As `make images` named it."""
    return f"{os.environ.get('IMAGE_PREFIX', 'canopy/')}{image}:{os.environ.get('TAG', 'dev')}"


def docker(*arguments: str, check: bool = True) -> str:
    """What the engine prints; its complaint is the failure's text."""
    command = [os.environ.get("DOCKER", "docker"), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert not check or ended.returncode == 0, f"{' '.join(arguments[:6])}: {ended.stderr}"
    return ended.stdout.strip()


@cache
def inspected(image: str) -> dict[str, Any]:
    """`docker image inspect` of one."""
    found: dict[str, Any] = json.loads(docker("image", "inspect", name(image)))[0]
    return found


@cache
def inside(image: str) -> dict[str, Any]:
    """What a Python that runs in it, as its user and without any network, finds there."""
    run = ("run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python3", name(image))
    found: dict[str, Any] = json.loads(docker(*run, "-c", INSIDE, PROGRAMS, f"{MODULES} {APART}"))
    return found


@contextmanager
def running(image: str, *options: str, arguments: tuple[str, ...] = ()) -> Iterator[str]:
    """A container of it on a read-only disk, as a deployment runs it; its id. It is gone afterwards."""
    plain = ("--read-only", "--tmpfs", "/tmp", "-v", "/var/lib/canopy", "--cap-drop", "ALL")
    container = docker("run", "-d", *plain, "--security-opt", "no-new-privileges", *options, name(image), *arguments)
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container)


def inside_exec(container: str, *command: str) -> tuple[int, str]:
    """(exit code, what it said) of a command in a container."""
    line = [os.environ.get("DOCKER", "docker"), "exec", container, *command]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS)
    return ended.returncode, ended.stdout + ended.stderr


def logs(container: str) -> str:
    """What a container has said, on both streams."""
    line = [os.environ.get("DOCKER", "docker"), "logs", container]
    return subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS).stdout


def pinned(pins: str) -> set[str]:
    """Names of requirements/NAME.txt that no marker makes conditional, but for other Pythons than this kind."""
    text = (ROOT / "requirements" / f"{pins}.txt").read_text()
    return {n for n, rest in re.findall(r"^([a-z0-9][\w.-]*)==(.*)$", text, re.M) if ";" not in rest or "PyPy" in rest}
