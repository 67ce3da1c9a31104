"""What stands before anything of this node can connect: identities, the link's certificate, the leaf's configuration.

`prepared` is entered before a process of this unit connects, and keeps the files good for as long as it lives, also
while the leaf is away. `python -m canopy.edgeidentity.prepare` writes them once, for whoever starts nats-server first.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from canopy.edgeidentity import link
from canopy.edgeidentity.conf import CLOSED, Config
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.keeping import Keeper
from canopy.edgeidentity.rescue import Rescue
from canopy.edgeidentity.settings import Settings
from canopy.edgeidentity.slots import slots
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.private import private_folder
from canopy.runtime.backoff import Backoff
from canopy.runtime.clock import Clock, SystemClock
from canopy.runtime.settings import Shared, host_and_port, load

log = logging.getLogger("canopy.edgeidentity")
FIRST_SECONDS, MOST_SECONDS = 1.0, 30.0
FIRST_LOOK_SECONDS = 0.1
"""For the link's certificate: without it this process has nothing to do."""


class Node:
    """The identities of one node and its leaf's configuration, as files."""

    def __init__(self, shared: Shared, settings: Settings, clock: Clock, rng: random.Random) -> None:
        self.folders = Folders.of(settings, shared.data_dir)
        self._shared, self._settings, self._clock, self._rng = shared, settings, clock, rng
        self.authority = authority(shared, settings, self.folders, clock)
        every = slots(shared.trust_domain, shared.node_name, tuple(settings.leaf_names.split()))
        self.keeper = Keeper(self.folders.root, every, self.authority, settings.svid_ttl_seconds, clock, rng)

    @asynccontextmanager
    async def prepared(self) -> AsyncIterator[None]:
        """All of it is there, and stays good until the block ends."""
        private_folder(self.folders.root)
        await self.keeper.keep()
        works = [
            asyncio.create_task(self._for_ever("the link's certificate", self._bring_link)),
            asyncio.create_task(self._for_ever("the identities of this node", self.keeper.run)),
            asyncio.create_task(self._for_ever("the leaf's certificate", self._rescue().run)),
        ]
        try:
            await link.there(self.folders.link, self._settings.source, self._clock, FIRST_LOOK_SECONDS)
            config = Config.of(self._settings, self.folders, self._shared.trust_domain, self._shared.node_name)
            await asyncio.to_thread(config.write, CLOSED)
            yield
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    def _rescue(self) -> Rescue:
        return Rescue(self.folders, *reached(self._settings.mqtt_listen), self._clock)

    async def _bring_link(self) -> None:
        node = ids.node(self._shared.trust_domain, self._shared.node_name)
        await link.bring(self._settings, self.folders, node, self._clock)

    async def _for_ever(self, what: str, work: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(FIRST_SECONDS, MOST_SECONDS, self._rng)
        while True:
            try:
                await work()
            except Exception as e:
                log.warning("%s cannot be kept: %s; trying on", what, e or type(e).__name__)
            await self._clock.sleep(backoff.next_seconds())


def reached(listen: str) -> tuple[str, int]:
    """Where this machine reaches what listens there."""
    host, port = host_and_port(listen)
    return ("127.0.0.1" if host in ("0.0.0.0", "::") else host), port  # noqa: S104


def authority(shared: Shared, settings: Settings, folders: Folders, clock: Clock) -> Builtin:
    """The node's own."""
    domain = ids.node_domain(shared.trust_domain, shared.node_name)
    return Builtin(folders.authority, domain, ca_ttl_seconds=settings.ca_ttl_seconds, clock=clock)


@asynccontextmanager
async def prepared(shared: Shared) -> AsyncIterator[None]:
    """Before a process that runs this unit connects. Raises SettingsError."""
    node = Node(shared, load(Settings), SystemClock(), random.Random())  # noqa: S311 - spreads renewals
    async with node.prepared():
        yield


async def _once() -> None:
    async with prepared(load(Shared)):
        pass


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    asyncio.run(_once())
