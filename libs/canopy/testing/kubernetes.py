"""The API servers that a test of a unit runs against: kubeserve, and in `make conformance` a real one.

A test's conftest parametrises its fixture by `subjects()` and opens one with `api_server`.
"""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from canopy.contracts.devices import ObjectMeta
from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.errors import NotFound
from canopy.kube.resource import DEVICE_MODELS, DEVICE_STATUSES, DEVICES, EVENTS, LEASES, NODES, Resource
from canopy.kubeserve.certificates import write_private
from canopy.kubeserve.server import KubeServe
from canopy.testing.apiserver import OWN_CLUSTER
from canopy.testing.child import free_port
from canopy.testing.servers import Link
from canopy.testing.wait import until

CLUSTER = "cluster"
EMPTY_SECONDS = 60.0
EMPTIED = (DEVICES, DEVICE_MODELS, DEVICE_STATUSES, NODES, LEASES, EVENTS)
SERVERS_OWN = ("apiserver-", "kubernetes.")
"""How the names of a real API server's own Lease and Events begin."""


class _Object(msgspec.Struct):
    metadata: ObjectMeta


@dataclass(frozen=True, slots=True)
class ApiServer:
    """`kubeconfig` stays valid; while `away()` is entered nobody answers there."""

    kubeconfig: Path
    away: Callable[[], AbstractAsyncContextManager[None]]


def subjects() -> list[object]:
    """Parameters of a fixture: kubeserve, and the real one (marked `conformance`) where its kubeconfig is named."""
    real = pytest.param(CLUSTER, marks=[pytest.mark.conformance, pytest.mark.xdist_group(CLUSTER)])
    return ["kubeserve", *([real] if os.environ.get(OWN_CLUSTER) else [])]


@asynccontextmanager
async def api_server(subject: str, directory: Path) -> AsyncIterator[ApiServer]:
    """An API server that holds nothing of ours but the CRDs. The real one is emptied: it must be the tests' own."""
    opened = _real(directory) if subject == CLUSTER else _embedded(directory)
    async with opened as server:
        yield server


@asynccontextmanager
async def _embedded(directory: Path) -> AsyncIterator[ApiServer]:
    running = await KubeServe(directory, free_port()).__aenter__()  # one that nobody else is given while it is away

    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        nonlocal running
        port, token = int(running.url.rpartition(":")[2]), running.token
        await running.__aexit__(None, None, None)
        try:
            yield
        finally:
            running = await KubeServe(directory, port, token).__aenter__()

    try:
        yield ApiServer(running.kubeconfig, away)
    finally:
        await running.__aexit__(None, None, None)


@asynccontextmanager
async def _real(directory: Path) -> AsyncIterator[ApiServer]:
    """The real one stays up for all tests; a link that can be cut stands before it."""
    config = _own_cluster()
    cluster = config["clusters"][0]["cluster"]
    link = await Link.open(urlsplit(cluster["server"]).port or 443)
    cluster["server"] = f"https://127.0.0.1:{link.port}"
    kubeconfig = directory / "kubeconfig"
    _write(kubeconfig, config)

    @asynccontextmanager
    async def away() -> AsyncIterator[None]:
        await link.cut()
        try:
            yield
        finally:
            await link.join()

    try:
        kube = await connect(kubeconfig)
        try:
            await _empty(kube)
        finally:
            await kube.close()
        yield ApiServer(kubeconfig, away)
    finally:
        await link.close()


def _own_cluster() -> Any:
    return yaml.safe_load(Path(os.environ[OWN_CLUSTER]).read_text())


def _write(path: Path, config: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_private(path, yaml.safe_dump(config).encode())


async def _empty(kube: Kube) -> None:
    """Look again until nothing is left: what is owned goes a little later, by the garbage collector's hand."""

    async def emptied() -> bool:
        return sum([await _deleted(kube, resource) for resource in EMPTIED]) == 0

    await until(emptied, EMPTY_SECONDS)


async def _deleted(kube: Kube, resource: Resource) -> int:
    """Delete all objects of a kind; how many there were."""
    found = [msgspec.json.decode(body, type=_Object).metadata for body in (await kube.list(resource)).items]
    ours = [meta for meta in found if not meta.name.startswith(SERVERS_OWN)]
    for meta in ours:
        with suppress(NotFound):
            await kube.delete(resource, meta.namespace, meta.name)
    return len(ours)
