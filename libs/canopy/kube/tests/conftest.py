"""The subjects of the contract: kubeserve in a process of its own, and a real cluster where one is named."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.resource import NAMESPACES

START_LIMIT_SECONDS = 30.0


def _subjects() -> list[object]:
    cluster = pytest.param("cluster", marks=pytest.mark.conformance)
    return ["kubeserve", *([cluster] if os.environ.get("CANOPY_TEST_KUBECONFIG") else [])]


@pytest.fixture(scope="session", params=_subjects())
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if request.param == "cluster":
        yield Path(os.environ["CANOPY_TEST_KUBECONFIG"])
        return
    directory = tmp_path_factory.mktemp("kubeserve")
    with (directory / "log").open("w") as log:
        command = [sys.executable, "-m", "canopy.kubeserve", "--dir", str(directory)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            assert process.stdout
            ready = json.loads(process.stdout.readline() or "{}")
            assert ready.get("ready"), (directory / "log").read_text()
            yield Path(ready["kubeconfig"])
        finally:
            process.terminate()
            assert process.wait(timeout=START_LIMIT_SECONDS) == 0, (directory / "log").read_text()


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[Kube]:
    kube = await connect(kubeconfig)
    try:
        yield kube
    finally:
        await kube.close()


@pytest.fixture
async def namespace(kube: Kube) -> AsyncIterator[str]:
    """A namespace of the test's own, gone afterwards."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    await kube.create(NAMESPACES, "", json.dumps({"metadata": {"name": name}}).encode())
    try:
        yield name
    finally:
        async with asyncio.timeout(10):
            await kube.delete(NAMESPACES, "", name)
