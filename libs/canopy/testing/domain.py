"""A trust domain for tests: its built-in authority, the identities that it gives, and connections by them.

`world` is the fleet's, `node` a node's own. Benches mint many identities by `minted` alone.
"""

import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from canopy.bus import Bus, Connection
from canopy.bus.connection import RECONNECT_SECONDS
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.natsjwt import Nkey
from canopy.identity.sources import FileSource
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.runtime.telemetry import Telemetry
from canopy.testing.child import HOST

TD = "canopy.test"
LONG_SECONDS = 3600.0
FIRST_SECONDS = 0.05
"""Who has a key decides who else comes in, and is back first after a restart of the hub, as spire_integration is."""


class AtOnce(random.Random):
    """A connection takes a newer certificate as soon as it sees one, in place of within some seconds."""

    def uniform(self, a: float, b: float) -> float:
        return a


async def minted(
    authority: Builtin, id: SpiffeId, ttl_seconds: float = LONG_SECONDS, dns: tuple[str, ...] = (), ip: bool = False
) -> Identity:
    """An identity of `id` under `authority`, with a key of its own; `ip`: it is a server on loopback."""
    key, ips = new_key(), (HOST,) if ip else ()
    made = await authority.mint(make_csr(key, id, dns), id, ttl_seconds=ttl_seconds, dns=dns, ips=ips)
    return Identity(Svid.of(made.chain_pem, key), await authority.bundle())


@dataclass
class Domain:
    """All that is opened here is closed with `stack`."""

    folder: Path
    authority: Builtin
    stack: AsyncExitStack

    async def files(self, id: SpiffeId, ttl_seconds: float = LONG_SECONDS, into: Path | None = None) -> Path:
        """A new folder with an identity of `id`; or the one that is named, written again."""
        folder = into or self._unused(id.path.strip("/").replace("/", "-"))
        write_identity(folder, await minted(self.authority, id, ttl_seconds))
        return folder

    def _unused(self, name: str) -> Path:
        """identities/NAME; where it is taken NAME-2, NAME-3 ..."""
        first = folder = self.folder / "identities" / name
        number = 1
        while folder.exists():
            number += 1
            folder = first.with_name(f"{name}-{number}")
        return folder

    async def connect(
        self, identity: Path, url: str, peer: SpiffeId, nkey: Nkey | None = None, name: str = ""
    ) -> Connection:
        """A connection by the identity in a folder, to a server that must be `peer`."""
        connection = await Connection.open(
            url,
            name=name or identity.name,
            nkey_seed=nkey.seed if nkey else "",
            identity=FileSource(identity),
            expected=frozenset({peer}),
            reconnect_seconds=FIRST_SECONDS if nkey else RECONNECT_SECONDS,
            rng=AtOnce(),
            proven_seconds=0.0,
        )
        self.stack.push_async_callback(connection.close, False)
        return connection

    async def opened(self, connection: Connection, unit: str, node: str = "") -> Bus:
        """The unit's end of a connection; `node` where it speaks on the link."""
        bus = Bus(connection, unit, Telemetry(unit, enabled=False), node)
        self.stack.push_async_callback(bus.close)
        await bus.open()
        return bus
