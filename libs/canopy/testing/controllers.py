"""A hub and an API server, and replicas of a controller in between: what tests of the controllers open.

The test plays CloudHub (`bus` has its rights) and whoever uses kubectl (`kube`).
"""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from canopy.bus import Bus
from canopy.bus.environment import Environment
from canopy.kube.api import Kube
from canopy.kube.client import connect
from canopy.kube.errors import NotFound
from canopy.kube.resource import Resource
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared
from canopy.runtime.telemetry import Telemetry
from canopy.testing.accounts import account
from canopy.testing.kubernetes import CLUSTER, ApiServer, api_server
from canopy.testing.wait import until
from canopy.testing.world import Running, World, open_world, running


@dataclass
class Between:
    """The servers. `unit` is the controller's name; `kubeconfig` is what its replicas get, `kube` has all rights."""

    unit: str
    world: World
    server: ApiServer
    kube: Kube
    bus: Bus
    kubeconfig: Path
    replicas: int = 0

    @asynccontextmanager
    async def replica(self, build: Callable[[Environment, str], Running]) -> AsyncIterator[Environment]:
        """A running replica of what `build` makes of its environment and a kubeconfig; the first one leads."""
        connection = await self.world.at_hub(self.unit)
        env = Environment(Shared(), connection, Telemetry(self.unit, enabled=False), Health(self.unit))
        try:
            async with running(build(env, str(self.kubeconfig))):
                if not self.replicas:
                    await until(lambda: f"canopy_{self.unit}_leads 1" in env.metrics.text())
                self.replicas += 1
                try:
                    yield env
                finally:
                    self.replicas -= 1
        finally:
            await connection.close()

    async def got(self, resource: Resource, namespace: str, name: str) -> Any:
        """The object as JSON; None if there is none."""
        try:
            return json.loads(await self.kube.get(resource, namespace, name))
        except NotFound:
            return None


@asynccontextmanager
async def open_between(directory: Path, unit: str, subject: str) -> AsyncIterator[Between]:
    """Servers for replicas of `unit`; `subject` is one of canopy.testing.kubernetes.subjects()."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(open_world(directory))
        server = await stack.enter_async_context(api_server(subject, directory / "kube"))
        kube = await connect(server.kubeconfig)
        stack.push_async_callback(kube.close)
        bus = await world.cloud("cloudhub")
        own = await account(server.kubeconfig, unit, directory) if subject == CLUSTER else server.kubeconfig
        yield Between(unit, world, server, kube, bus, own)
