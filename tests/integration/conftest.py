"""The whole system as real processes, split and folded: one of each for the session, each on a worker of its own."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from own_certificates import Device, provision
from stories import Stories
from talk import Talk, device, node, talk

from canopy.testing.system import System

MODES = [pytest.param(mode, marks=pytest.mark.xdist_group(mode)) for mode in ("folded", "split")]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One event loop for the session: the system's clients live in it. And `one_mode` leaves out the other one."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("asyncio"):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
    if twice := [item for item in items if _in_the_other_mode(item)]:
        items[:] = [item for item in items if item not in twice]
        config.hook.pytest_deselected(items=twice)


def _in_the_other_mode(item: pytest.Item) -> bool:
    marker, call = item.get_closest_marker("one_mode"), getattr(item, "callspec", None)
    return bool(marker and call and call.params["system"] != marker.args[0])


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=MODES)
async def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[System]:
    """Hub, kubeserve, cloud units, two nodes; the second one is called `node`, which must not matter (B34)."""
    folder = tmp_path_factory.mktemp(request.param)
    async with System(folder, split=request.param == "split", nodes=("edge-1", "node")) as running:
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stories(system: System) -> AsyncIterator[Stories]:
    """What the tests do to the system, in words."""
    async with system.kube() as kube, system.api() as api:
        told = Stories(system, kube, api)
        await told.prepare()
        yield told


@pytest_asyncio.fixture(loop_scope="session")
async def one(stories: Stories) -> AsyncIterator[Talk]:
    """A stock client that plays a device of its own, known at the edge, with an empty twin."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    async with talk(stories.system.node().mqtt_port, device(name)) as client:
        await stories.create(name)
        await stories.known_at_the_edge(client)
        yield client
    await stories.kube.delete("Device", name)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def certified(stories: Stories) -> AsyncIterator[Device]:
    """A device of the first node with a certificate of its own: it goes straight to the gateway. The plain port is
    edgeidentity's, and goes with it."""
    name = f"c-{uuid.uuid4().hex[:8]}"
    await stories.create(name)
    yield await provision(stories.system, name, stories.system.node().name)
    await stories.kube.delete("Device", name)


@pytest_asyncio.fixture(loop_scope="session")
async def unknown(stories: Stories) -> AsyncIterator[Talk]:
    """A client of a device that does not exist."""
    async with talk(stories.system.node().mqtt_port, device(f"no-{uuid.uuid4().hex[:8]}")) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def member(stories: Stories) -> AsyncIterator[Talk]:
    """A client that listens to the first node's membership."""
    async with talk(stories.system.node().mqtt_port, node(stories.system.node().name)) as client:
        yield client


@pytest.fixture
def elsewhere(stories: Stories) -> Any:
    """`async with elsewhere(namespace, name) as talk:` a device with these names, on the node called `node`."""

    @contextlib.asynccontextmanager
    async def there(namespace: str, name: str) -> AsyncIterator[Talk]:
        async with talk(stories.system.node("node").mqtt_port, device(name, namespace)) as client:
            await stories.create(name, namespace, on="node")
            await stories.known_at_the_edge(client)
            yield client
        await stories.kube.delete("Device", name, namespace)

    return there
