"""`make e2e`: images of this checkout under a tag of their own, the stories, and all that was made removed again.

Arguments go to pytest. CANOPY_E2E_TAG takes images that are there (and leaves them), CANOPY_E2E_KEEP=1 keeps what was
built, CANOPY_E2E_KUBECONFIG another cluster. Exit code: pytest's; 1 with one line where something is missing.
"""

import os
import subprocess
import sys
from pathlib import Path

import docker
from docker.errors import ImageNotFound
from sweeping import swept

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENGINE, BUILD = ROOT / "deploy" / "images" / "engine.sh", ROOT / "deploy" / "images" / "build.py"
OURS = "canopy/"
OWN_TAG = "e2e"
PUBLIC_REDIS = "redis:8.0-alpine"


class Missing(Exception):
    """What stands in the way, in one line."""


def main(arguments: list[str]) -> int:
    """The exit code."""
    if subprocess.run(["bash", ENGINE, "--check"]).returncode:
        return 1  # it has said in one line what is missing and how to get it
    before = _images()
    try:
        environment = {**os.environ, **_prepared()}
        return _stories(arguments, environment)
    except Missing as e:
        print(f"make e2e: {e}", file=sys.stderr)
        return 1
    finally:
        swept()
        if "CANOPY_E2E_TAG" not in os.environ and os.environ.get("CANOPY_E2E_KEEP") != "1":
            _remove(before)


def _stories(arguments: list[str], environment: dict[str, str]) -> int:
    paths = f"pythonpath={HERE.parent / 'integration'} {HERE}"
    command = [sys.executable, "-m", "pytest", "-s", "-q", "-p", "no:cacheprovider", "-o", paths, str(HERE), *arguments]
    pytest = subprocess.Popen(command, cwd=ROOT, env=environment)
    while True:
        try:
            return pytest.wait()
        except KeyboardInterrupt:  # pytest has had it too, and takes down what it has put up
            continue


def _prepared() -> dict[str, str]:
    """Images and the program of Kubernetes; what the stories are told of them. Raises Missing."""
    tag = os.environ.get("CANOPY_E2E_TAG") or OWN_TAG
    if "CANOPY_E2E_TAG" not in os.environ:
        if subprocess.run(["bash", HERE.parent / "spire" / "build.sh"], stdout=subprocess.DEVNULL).returncode:
            raise Missing("there is no SPIRE (above: how to get it)")
        own = {**os.environ, "TAG": tag}
        if subprocess.run([sys.executable, BUILD], cwd=BUILD.parent, env=own).returncode:
            raise Missing("the images could not be built")
    if not _there(f"canopy/spire-server:{tag}"):
        raise Missing(f"there is no image canopy/spire-server:{tag}: `bash tests/spire/build.sh`, then `make images`")
    found = {"CANOPY_E2E_TAG": tag}
    if not _there(f"canopy/redis:{tag}") and "CANOPY_E2E_REDIS_IMAGE" not in os.environ:
        found["CANOPY_E2E_REDIS_IMAGE"] = PUBLIC_REDIS
    if "CANOPY_E2E_KUBECONFIG" not in os.environ:
        built = subprocess.run(["bash", HERE.parent / "cluster" / "build.sh"], stdout=subprocess.PIPE, text=True)
        if built.returncode:
            raise Missing("there is no kube-apiserver (above: how to get it); or CANOPY_E2E_KUBECONFIG names a cluster")
        found["CANOPY_E2E_PROGRAMS"] = built.stdout.strip()
    return found


def _there(image: str) -> bool:
    try:
        docker.from_env().images.get(image)
    except ImageNotFound:
        return False
    return True


def _images() -> set[str]:
    """Names and ids of what is there."""
    client = docker.from_env()
    return {tag for image in client.images.list() for tag in image.tags} | {i.id for i in client.images.list(all=True)}


def _remove(before: set[str]) -> None:
    """Images under our own tag, and what they left without a name, that were not there; the base stays as a cache."""
    client = docker.from_env()
    for image in client.images.list():
        for tag in image.tags:
            if tag.startswith(OURS) and tag.endswith(f":{OWN_TAG}") and tag not in before:
                client.images.remove(tag)
    for image in client.images.list(filters={"dangling": True}):
        title = (image.labels or {}).get("org.opencontainers.image.title", "")
        if title.startswith(OURS) and image.id not in before:
            client.images.remove(image.id)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
