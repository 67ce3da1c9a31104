"""`image.py OUT.tar NAME:TAG FOLDER [CONFIG]`: a folder as an image of one layer that `ctr` and `docker load` take.

For images of one static program, where no engine is at hand; CONFIG is the image's configuration as JSON.
"""

import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def layer(root: Path) -> bytes:
    """The folder's files, owned by root, without times: the same files give the same image."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as tar:
        for path in sorted(root.rglob("*")):
            entry = tar.gettarinfo(path, str(path.relative_to(root)))
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            with path.open("rb") if path.is_file() else io.BytesIO() as content:
                tar.addfile(entry, content if entry.isreg() else None)
    return held.getvalue()


def archive(out: Path, name: str, root: Path, config: dict[str, object]) -> None:
    """Write the image in docker's archive form."""
    content = layer(root)
    digest = hashlib.sha256(content).hexdigest()
    about = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    told = json.dumps(about, sort_keys=True).encode()
    files = {f"{hashlib.sha256(told).hexdigest()}.json": told, f"{digest}/layer.tar": content}
    manifest = [{"Config": next(iter(files)), "RepoTags": [name], "Layers": [f"{digest}/layer.tar"]}]
    with tarfile.open(out, "w") as tar:
        for path, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    archive(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4]) if len(sys.argv) > 4 else {})
