"""What stands in an image, as folders on this machine: the build context that the Dockerfile copies from.

`core/` (what every unit installs: one layer for all images), `deps/` (what only this one does), `app/` (its packages
of canopy) and `bin/`. From the hashed pins, for any platform, by uv. Our own files bear the time of the commit, all
others one that never changes, and byte code stands beside its source: equal inputs make equal layers, and nothing is
compiled at a start on a read-only disk.
"""

import compileall
import hashlib
import importlib.metadata
import os
import py_compile
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PINS = ROOT / "requirements"
CORE = "edgehub"
"""Whose pins every unit has: nothing but the dependencies of the project itself."""
WHEELS = {"linux/amd64": "x86_64-manylinux_2_28", "linux/arm64": "aarch64-manylinux_2_28"}
LIB, APP = "/opt/canopy/lib", "/opt/canopy/app"
NO_WHEEL = {"nkeys"}
"""Published as source only; plain Python."""
LEFT_OUT = ("tests", "test", "__pycache__")
OTHERS_MOMENT = 946_684_800
"""The time that files of others bear: 2000-01-01."""
STALE = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


class NoTree(Exception):
    """A tree could not be made; the text says why."""


def prepare(name: str, row: Mapping[str, Any], platform: str, out: Path, cache: Path, moment: int) -> Path:
    """The context of one image, made anew at out/ARCH/NAME. Raises NoTree."""
    context = out / platform.removeprefix("linux/") / name
    shutil.rmtree(context, ignore_errors=True)
    for part in ("core", "deps", "app", "bin"):
        (context / part).mkdir(parents=True)
    if "pins" in row:
        core = installed(pins(CORE), platform, cache)
        _shared(core, context / "core")
        rest = {n: text for n, text in pins(row["pins"]).items() if n not in pins(CORE)}
        if rest:
            _shared(installed(rest, platform, cache), context / "deps")
        _our_own(row["packages"], context / "app")
    if "binary" in row:
        _program(row["binary"], row["from"], platform, cache, context / "bin")
    if "built" in row:
        shutil.copy(spire_cache() / row["built"], context / "bin" / row["built"])
    for part in ("core", "deps", "bin"):
        _timed(context / part, OTHERS_MOMENT)  # not of the commit: with equal pins the layers stay what they were
    _timed(context / "app", moment)
    return context


def _shared(tree: Path, out: Path) -> None:
    """By hard links where that works: a tree of others' files is written once, and has one time and mode for all."""

    def taken(source: str, target: str) -> None:
        try:
            Path(target).hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)

    shutil.copytree(tree, out, dirs_exist_ok=True, copy_function=taken)


def pins(name: str) -> dict[str, str]:
    """Package -> its lines with hashes, of requirements/NAME.txt."""
    text = (PINS / f"{name}.txt").read_text()
    found = re.findall(r"^([a-z0-9][\w.-]*)(==(?:.*\\\n)*.*)$", text, re.M)
    return {package: package + rest + "\n" for package, rest in found}


def installed(wanted: Mapping[str, str], platform: str, cache: Path) -> Path:
    """A folder with these packages for that platform, bare and compiled; made once for equal pins."""
    text = "".join(wanted[name] for name in sorted(wanted) if name not in NO_WHEEL)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    recipe = "\n".join((*wanted.values(), platform, sys.version, Path(__file__).read_text()))
    folder = cache / "trees" / hashlib.sha256(recipe.encode()).hexdigest()[:24]
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=_made(cache / "trees")) as scratch:
            tree = Path(scratch) / "tree"
            _install(text, version, platform, tree)
            for name in sorted(NO_WHEEL & wanted.keys()):
                _copied(name, wanted[name], tree)
            _bare(tree)
            _compiled(tree, LIB, py_compile.PycInvalidationMode.UNCHECKED_HASH)
            tree.rename(folder)
    return folder


def _install(text: str, version: str, platform: str, tree: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(text)
        file.flush()
        command = ["pip", "install", "--quiet", "--target", str(tree), "--require-hashes", "--no-deps"]
        command += ["--only-binary", ":all:", "--python-version", version, "--python-platform", WHEELS[platform]]
        _uv([*command, "--link-mode", "copy", "-r", file.name])


def _copied(name: str, pin: str, tree: Path) -> None:
    """From .venv, where it was built from its hashed source. Raises NoTree."""
    found = importlib.metadata.distribution(name)
    pure = "Root-Is-Purelib: true" in (found.read_text("WHEEL") or "")
    if not pin.startswith(f"{name}=={found.version} ") or not pure or not found.files:
        raise NoTree(f"{name}: .venv holds {found.version}, not the pinned one, or it is not plain Python")
    for file in found.files:
        target = tree / file
        if ".." not in file.parts and file.suffix != ".pyc":
            _made(target.parent)
            shutil.copyfile(file.locate(), target)


def _uv(arguments: Sequence[str]) -> None:
    ended = subprocess.run([Path(sys.executable).with_name("uv"), *arguments], capture_output=True, text=True)
    if ended.returncode:
        raise NoTree(ended.stderr.strip() or f"uv {arguments[0]} failed")


def _bare(tree: Path) -> None:
    """Without tests, scripts, and records of a folder that will not be there."""
    shutil.rmtree(tree / "bin", ignore_errors=True)
    for folder in [p for p in tree.rglob("*") if p.is_dir() and p.name in LEFT_OUT]:
        shutil.rmtree(folder, ignore_errors=True)
    for record in [p for p in tree.glob("*.dist-info/*") if p.name in STALE]:
        record.unlink()
    for file in [p for p in tree.rglob("*") if p.suffix in (".pyi", ".pyx", ".pxd", ".c", ".h")]:
        file.unlink()


def _compiled(tree: Path, where: str, mode: py_compile.PycInvalidationMode) -> None:
    """Byte code for what will stand at `where`. Our own is checked against its source, so that one may sync into it."""
    if not compileall.compile_dir(
        tree, quiet=2, stripdir=str(tree), prependdir=where, invalidation_mode=mode, workers=0
    ):
        raise NoTree(f"not all of {tree} compiles")


def _our_own(packages: Iterable[str], out: Path) -> None:
    """Packages (or single files) of canopy without their tests, and the metadata that entry points are read from."""
    for name in packages:
        source = next(p / "canopy" / name for p in (ROOT / "libs", ROOT / "services") if (p / "canopy" / name).exists())
        target = _made((out / "canopy" / name).parent) / source.name
        if source.is_file():
            shutil.copyfile(source, target)
        else:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("tests", "__pycache__", "*.md"))
    _metadata(out)
    _compiled(out, APP, py_compile.PycInvalidationMode.CHECKED_HASH)


def _metadata(out: Path) -> None:
    project = _project()
    folder = _made(out / f"canopy-{project['version']}.dist-info")
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: canopy\nVersion: {project['version']}\n")
    lines = [
        f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in entries.items() if _stands(out, v))
        for group, entries in project["entry-points"].items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def _project() -> dict[str, Any]:
    import tomllib

    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _stands(out: Path, entry: str) -> bool:
    return (out / (entry.partition(":")[0].replace(".", "/") + ".py")).is_file()


def _program(name: str, package: str, platform: str, cache: Path, out: Path) -> None:
    """A program that a wheel brings."""
    text = (
        pins("dev")[package].partition(";")[0] if ";" in pins("dev")[package].split("\n")[0] else pins("dev")[package]
    )
    folder = cache / "programs" / hashlib.sha256((text + platform).encode()).hexdigest()[:24]
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=_made(cache / "programs")) as scratch:
            tree = Path(scratch) / "tree"
            _install(text, f"{sys.version_info.major}.{sys.version_info.minor}", platform, tree)
            found = next((p for p in sorted(tree.rglob(name)) if p.is_file()), None)
            if found is None:
                raise NoTree(f"{package} holds no {name} for {platform}")
            found.chmod(0o755)
            found.rename(_made(Path(scratch) / "only") / name)
            (Path(scratch) / "only").rename(folder)
    shutil.copy(folder / name, out / name)


def spire_cache() -> Path:
    """Where tests/spire/build.sh leaves the programs of SPIRE, static ones."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CANOPY_SPIRE_CACHE") or Path(home) / "canopy-spire") / "bin"


def _timed(part: Path, moment: int) -> None:
    """One time and plain modes for all: a layer is made of them too."""
    for path in (*sorted(part.rglob("*"), reverse=True), part):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        os.utime(path, (moment, moment))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
