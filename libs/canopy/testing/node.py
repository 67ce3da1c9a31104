"""One node for tests: its own authority, its leaf, and whoever connects to that: units over NATS, devices over MQTT."""

import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canopy.bus import Bus, Connection
from canopy.bus.environment import Environment
from canopy.bus.rights import Permissions, app_rights, device_rights
from canopy.bus.trust import LEAF, LeafTrust
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, write_identity
from canopy.identity.ids import SpiffeId
from canopy.runtime.health import Health
from canopy.runtime.settings import Shared, load
from canopy.runtime.telemetry import Telemetry
from canopy.testing.domain import TD, Domain, minted
from canopy.testing.servers import NAME, RunningLeaf, leaf

if TYPE_CHECKING:
    import aiomqtt

NO_HUB = f"tls://{NAME}:9"
"""For a leaf that finds nobody there."""


@dataclass
class Node(Domain):
    """`trust` is what its leaf is to read at its next start, or at `reload`."""

    name: str
    trust: LeafTrust
    leaf: RunningLeaf = field(init=False)

    @classmethod
    async def make(cls, folder: Path, name: str, fleet: Builtin, stack: AsyncExitStack) -> "Node":
        """Its files, with a link that `fleet` knows; the leaf is not started."""
        authority = Builtin(folder / "authority", ids.node_domain(TD, name))
        write_identity(folder / "link", await minted(fleet, ids.node(TD, name)))
        write_identity(folder / "leaf", await minted(authority, ids.local(TD, name, LEAF), dns=(NAME,), ip=True))
        listener, link = (
            (str(folder / which / SVID_FILE), str(folder / which / BUNDLE_FILE)) for which in ("leaf", "link")
        )
        return cls(folder, authority, stack, name, LeafTrust(name, TD, *listener, *link))

    def id(self, unit: str) -> SpiffeId:
        return ids.local(TD, self.name, unit)

    @property
    def roots(self) -> Path:
        """Those of this node, in a file."""
        return self.folder / "leaf" / BUNDLE_FILE

    def invite(self, *guests: SpiffeId) -> None:
        """Let these devices and apps in, from the leaf's next start or `reload` on."""
        self.trust = replace(self.trust, devices=tuple((str(id), self._rights(id)) for id in guests))

    def _rights(self, id: SpiffeId) -> Permissions:
        kind, *name = id.segments
        return device_rights(name[0], name[1], self.name) if kind == "device" else app_rights(self.name)

    async def start(self, hub_url: str = NO_HUB) -> RunningLeaf:
        """Start its leaf."""
        self.leaf = await leaf(self.folder / "server", hub_url, self.trust)
        self.stack.push_async_callback(self.leaf.server.kill)
        return self.leaf

    def reload(self) -> None:
        """Let its leaf take what `trust` says now."""
        assert self.leaf.config is not None
        self.leaf.server.configure(replace(self.leaf.config, trust=self.trust).text())
        self.leaf.server.reload()

    async def at_leaf(self, unit: str, identity: Path | None = None) -> Connection:
        """A connection of a unit to the leaf, which runs."""
        return await self.connect(identity or await self.files(self.id(unit)), self.leaf.client_url, self.id(LEAF))

    async def bus(self, unit: str) -> Bus:
        """A bus of a unit, open."""
        return await self.opened(await self.at_leaf(unit), unit, self.name if unit == "edgehub" else "")

    async def environment(self, unit: str, data_dir: Path | None = None) -> Environment:
        """What a process of one unit gives it."""
        identity = await self.files(self.id(unit))
        given = {
            "node_name": self.name,
            "nats_url": self.leaf.client_url,
            "data_dir": data_dir or self.folder / "data",
            "identity_dir": str(identity),
        }
        connection = await self.at_leaf(unit, identity)
        return Environment(load(Shared, given), connection, Telemetry(unit, enabled=False), Health(unit))

    async def mqtt(self, guest: SpiffeId, **options: Any) -> "aiomqtt.Client":
        """A stock MQTT client with a certificate of a device or an app, whom the leaf knows if it was invited."""
        import aiomqtt  # only here: who does not speak MQTT needs none

        context = ssl.create_default_context(cafile=str(self.roots))
        context.load_cert_chain(await self.files(guest) / SVID_FILE)
        return aiomqtt.Client(NAME, self.leaf.mqtt_port, tls_context=context, **options)
