"""What certificates add to the configurations of the hub and of a leaf. Pure; `config` puts it in.

At the hub every connection bears a certificate of the fleet, and the auth callout decides what it may. At a leaf
certificates are the node's own, and a map of SPIFFE IDs, written anew as devices come and go, says it, offline too.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from canopy.bus import conftext as t
from canopy.bus.rights import (
    EDGE,
    Permissions,
    callout_rights,
    cloud_rights,
    edge_rights,
    hub_system_rights,
    leaf_system_rights,
)
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION
from canopy.identity import ids

HANDSHAKE_SECONDS = 10
"""A storm of 10,000 nodes is a queue, not an outage."""
AUTH_SECONDS = 2
"""How long a hub waits for the callout, and whoever connects for the hub: who comes before the callout does, after a
hub's restart, loses no more than this."""
SYSTEM = "system"
"""`spiffe://{node}.{td}/system`: who keeps a leaf's configuration, in its account SYS."""
LEAF = "leaf"
"""`spiffe://{node}.{td}/leaf`: the leaf itself, to whoever connects."""
MQTT, NATS = "MQTT", "STANDARD"
AUTH_ACCOUNT = "AUTH"


@dataclass(frozen=True, slots=True)
class HubTrust:
    """`svid` (key and chain in one file) and `bundle` (roots) are paths of the hub's identity. `issuer` is the account
    nkey whose signature under a callout's answer counts; `auth`, `cloud`, `sys` are spire_integration's user nkeys."""

    svid: str
    bundle: str
    issuer: str
    auth: str
    cloud: str
    sys: str

    def tls(self) -> str:
        """For clients, leaves and routes alike: who has no certificate of the fleet gets no further than this."""
        return tls_block(self.svid, self.bundle, "verify: true")

    def authorization(self) -> str:
        nkeys = t.listed((self.auth, self.cloud, self.sys))
        return t.lines(
            f"authorization {{ timeout: {AUTH_SECONDS},",
            f"  auth_callout {{ issuer: {t.quoted(self.issuer)}, account: {AUTH_ACCOUNT}, auth_users: {nkeys} }} }}",
        )

    def cloud_users(self) -> list[str]:
        return [t.keyed(self.cloud, cloud_rights(SPIRE_INTEGRATION))]

    def accounts(self) -> str:
        """AUTH and SYS."""
        return t.lines(
            f"  {AUTH_ACCOUNT} {{",
            t.users([t.keyed(self.auth, callout_rights())]),
            "  }\n  SYS {",
            t.users([t.keyed(self.sys, hub_system_rights())]),
            "  }",
        )


@dataclass(frozen=True, slots=True)
class LeafTrust:
    """`listener` is the identity of the leaf under the node's own authority, `link` the node's under the fleet's; both
    files hold key and chain. `devices` are (SPIFFE ID, rights) of devices and apps; none of them is let in while
    `gated` (rule 29). `node` and `td` name the users: each unit, EDGE for folded ones, SYSTEM."""

    node: str
    td: str
    listener: str
    listener_bundle: str
    link: str
    link_bundle: str
    devices: tuple[tuple[str, Permissions], ...] = ()
    gated: bool = False

    def listener_tls(self) -> str:
        return tls_block(self.listener, self.listener_bundle, "verify_and_map: true")

    def link_tls(self) -> str:
        return tls_block(self.link, self.link_bundle)

    def edge_users(self) -> list[str]:
        units = [t.certified(self._id(u), edge_rights(u, self.node), (NATS,)) for u in _UNITS]
        devices = () if self.gated else self.devices
        return [*units, *(t.certified(id, rights, (MQTT,)) for id, rights in sorted(devices))]

    def system_users(self) -> list[str]:
        return [t.certified(self._id(SYSTEM), leaf_system_rights(), (NATS,))]

    def _id(self, unit: str) -> str:
        return str(ids.local(self.td, self.node, unit))


_UNITS = (*EDGE_UNITS, EDGEIDENTITY, EDGE)


def tls_block(svid: str, bundle: str, *more: str) -> str:
    """`tls { ... }` of a listener or a remote."""
    files = [f"{key}: {t.quoted(path)}" for key, path in _files(svid, bundle)]
    return f"tls {{ {', '.join((*files, *more))}, timeout: {HANDSHAKE_SECONDS} }}"


def _files(svid: str, bundle: str) -> Iterable[tuple[str, str]]:
    return (("cert_file", svid), ("key_file", svid), ("ca_file", bundle))
