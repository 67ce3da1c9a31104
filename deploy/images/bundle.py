"""`make bundle`: all that a site without a network needs, in one archive with its checksum beside it.

Images as one tar that `docker load` and `ctr images import` take, wheels for machines without containers, the
manifests, the docs, SHA256SUMS of every file, and a README. Files are in order, with the commit's time and without
owners. TAG, IMAGE_PREFIX and DOCKER are as for `make images`.
"""

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from build import NATIVE, TABLE, Missing, Wish, commit, not_built, version
from trees import ROOT
from wheels import NoWheels, collected

FOLDERS = ("deploy/k8s", "deploy/systemd", "deploy/compose", "docs", "examples")
LEFT_OUT = ("__pycache__", ".env", "generated")
"""The passwords and keys of a machine that has tried compose do not leave it."""
FILES = ("LICENSE", "deploy/images/README.md")
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
IMAGE = re.compile(r"^\s*(?:- )?image:\s*[\"']?([\w./-]+:[\w.-]+)", re.M)
STAND_IN = "\nFor redis take canopy/redis, if it is inside: `images:` in an overlay, as overlays/ci does.\n"
README = """# Canopy {version}, for a site without a network
Made from commit {revision}, for {platform}.

    sha256sum -c canopy-{version}-{arch}.tar.gz.sha256     # beside the archive, before it is opened
    tar -xzf canopy-{version}-{arch}.tar.gz && cd canopy-{version}-{arch}
    sha256sum -c --quiet SHA256SUMS

Load the images, with Docker or on each node with containerd:

    docker load -i images.tar
    ctr --namespace k8s.io images import images.tar

The command line, and all that a machine without containers wants to be a node (Python {python}, glibc >= 2.28):

    python3 -m venv /opt/canopy && /opt/canopy/bin/pip install --no-index --no-deps wheels/*.whl

This is step 1 of docs/run-an-edge-node.md. `canopy secrets`, before the manifests of docs/deploy-on-kubernetes.md, and
`/opt/canopy/bin/python deploy/compose/prepare.py`, in place of `make compose-env` of deploy/compose, come by it too.
A node joins the fleet of this site: it needs a token of `canopy node token`, the join endpoint and the hub's leaf port
of the same site, and a clock that is right to the day. Nothing of it, nor of SPIRE, asks anybody outside.

Images inside:
{inside}
{missing}"""


def main() -> None:
    """The archive, and what it holds. Raises Missing."""
    wish = Wish.of(dict(os.environ))
    own = [wish.name(image, NATIVE) for image in wish.images if not not_built(TABLE[image], NATIVE)]
    if absent := [name for name in own if not _here(wish, name)]:
        raise Missing(f"{', '.join(absent)} not built; `make images` does")
    revision, moment, _ = commit()
    arch = NATIVE.removeprefix("linux/")
    label = f"canopy-{version()}-{arch}"
    others = sorted(_named() - set(own))
    inside = own + [name for name in others if _here(wish, name) or _pulled(wish, name)]
    lacking = [name for name in others if name not in inside]
    out = ROOT / "build" / "bundle"
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        folder = Path(scratch) / label
        _collected(folder)
        wheels = _made(folder / "wheels", moment)
        subprocess.run([wish.docker, "save", "-o", str(folder / "images.tar"), *inside], check=True)
        words = {"version": version(), "revision": revision, "platform": NATIVE, "arch": arch, "python": PYTHON}
        (folder / "README.md").write_text(README.format(**words, inside=_listed(inside), missing=_missing(lacking)))
        (folder / "SHA256SUMS").write_text(_sums(folder))
        archive = out / f"{label}.tar.gz"
        _packed(folder, archive, moment)
    (out / f"{archive.name}.sha256").write_text(f"{_sum(archive)}  {archive.name}\n")
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.0f} MB, {len(inside)} images, {wheels} wheels")
    if lacking:
        print(f"not inside, since they cannot be pulled here: {', '.join(lacking)}", file=sys.stderr)


def _here(wish: Wish, name: str) -> bool:
    return not subprocess.run([wish.docker, "image", "inspect", name], capture_output=True).returncode


def _pulled(wish: Wish, name: str) -> bool:
    return not subprocess.run([wish.docker, "pull", "--quiet", name], capture_output=True, timeout=300).returncode


def _named() -> set[str]:
    """Images of others that the manifests name."""
    texts = (path.read_text() for path in (ROOT / "deploy").rglob("*.yaml"))
    return {name for text in texts for name in IMAGE.findall(text) if not name.startswith(("canopy/", "registry."))}


def _collected(folder: Path) -> None:
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)


def _made(folder: Path, moment: int) -> int:
    """How many wheels are in `folder` now."""
    folder.mkdir()
    return len(collected(folder, NATIVE, moment))


def _listed(names: list[str]) -> str:
    return "\n".join(f"- {name}" for name in names)


def _missing(names: list[str]) -> str:
    """Said inside too: who opens it is elsewhere."""
    if not names:
        return ""
    return f"\nNot inside, and named by manifests; bring them by other means:\n{_listed(names)}\n{STAND_IN}"


def _sums(folder: Path) -> str:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return "".join(f"{_sum(path)}  {path.relative_to(folder)}\n" for path in files)


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _packed(folder: Path, archive: Path, moment: int) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mtime = moment
        return entry

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=moment) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in (folder, *sorted(folder.rglob("*"))):
            tar.add(path, str(path.relative_to(folder.parent)), recursive=False, filter=plain)


if __name__ == "__main__":
    try:
        main()
    except (Missing, NoWheels, subprocess.SubprocessError) as e:
        sys.exit(f"make bundle: {e}")
