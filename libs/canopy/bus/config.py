"""Configurations of the hub's and a leaf's nats-server, made from the catalogue and the roles. Pure: text out.

Who writes them to files: `canopy nats hub` for a deployment, edgeidentity for a leaf, the one-command start, tests.
"""

import zlib
from dataclasses import dataclass

from canopy.bus.conftext import Variable, lines, listed, quoted, users
from canopy.bus.rights import CLOUD, EDGE, domain
from canopy.bus.trust import HubTrust, LeafTrust

__all__ = [
    "CLOUD",
    "EDGE",
    "HUB",
    "ROUTE",
    "Cluster",
    "Hub",
    "HubTrust",
    "Leaf",
    "LeafTrust",
    "Variable",
    "domain",
    "node_account",
    "route_url",
]
NODE_ACCOUNTS = 16
_NODE_ACCOUNTS = tuple(f"NODES-{number}" for number in range(NODE_ACCOUNTS))
MAX_PAYLOAD_BYTES = 256 * 1024
HUB = "hub"
"""The name of the hub: of its one server, or of its cluster; and its JetStream domain."""
ROUTE = "route"
"""The user of the servers of a clustered hub among themselves."""


def node_account(node: str) -> str:
    """The hub's account of a node: one of 16, by a hash of its name."""
    return f"NODES-{zlib.crc32(node.encode()) % NODE_ACCOUNTS}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """One of the servers of a clustered hub: its own name, where the others reach it and with what password, and where
    it reaches them (`route_url` of each)."""

    name: str
    listen: str
    password: str
    routes: tuple[str, ...]

    def text(self, trust: HubTrust) -> str:
        """The block `cluster`. Clients and leaves are given every address: what a server adds of its own
        (an address inside a container's network) would only mislead them."""
        return lines(
            f"cluster {{ name: {HUB}, listen: {quoted(self.listen)}, no_advertise: true,",
            f"  {trust.tls()}",
            f"  authorization {{ user: {ROUTE}, password: {quoted(self.password)} }}, routes: {listed(self.routes)} }}",
        )


def route_url(address: str, password: str) -> str:
    """Where a server of a clustered hub reaches another (host:port). The credentials have to stand in it."""
    return f"nats-route://{ROUTE}:{password}@{address}"


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub, or one of its servers. Nobody but spire_integration is in it: the auth callout lets everybody in."""

    store_dir: str
    trust: HubTrust
    listen: str = "127.0.0.1:4222"
    leaf_listen: str = "127.0.0.1:7422"
    http: str = ""
    cluster: Cluster | None = None

    def text(self) -> str:
        """The configuration file."""
        trust = self.trust
        return lines(
            f"server_name: {quoted(self.cluster.name) if self.cluster else HUB}",
            f"listen: {quoted(self.listen)}",
            f"http: {quoted(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2\nwrite_deadline: "10s"',
            f"jetstream {{ store_dir: {quoted(self.store_dir)}, domain: {HUB} }}",
            f"leafnodes {{ listen: {quoted(self.leaf_listen)}, no_advertise: true, isolate_leafnode_interest: true,"
            f" compression: off, {trust.tls()} }}",
            self.cluster.text(trust) if self.cluster else "",
            trust.tls(),
            trust.authorization(),
            "accounts {",
            *self._cloud(),
            *map(_nodes, _NODE_ACCOUNTS),
            trust.accounts(),
            "}\nsystem_account: SYS",
        )

    def _cloud(self) -> list[str]:
        exports = '[ { service: "node.*.ask.>" }, { stream: "node.*.in.*.push.>" } ]'
        return ["  CLOUD {\n    jetstream: enabled", f"    exports: {exports}", users(self.trust.cloud_users()), "  }"]


def _nodes(account: str) -> str:
    imports = (
        '[ { service: { account: CLOUD, subject: "node.*.ask.>" } },'
        ' { stream: { account: CLOUD, subject: "node.*.in.*.push.>" } } ]'
    )
    return lines(f"  {account} {{", f"    imports: {imports}", "  }")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node's leaf. `hub_url` (tls://host:port) may name several servers of one hub, with commas."""

    store_dir: str
    hub_url: str
    trust: LeafTrust
    listen: str = "127.0.0.1:4222"
    mqtt_listen: str = "127.0.0.1:1883"
    http: str = ""
    max_file_bytes: int = 256 * 1024 * 1024
    machine: str = ""
    """What no other machine says, made anew by who writes this file. A hub lets only one leaf of a name stay: two
    machines that bear one identity would throw each other out every second, before either is told of the other."""

    def text(self) -> str:
        """The configuration file."""
        trust, node = self.trust, self.trust.node
        tls, urls = trust.listener_tls(), listed(self.hub_url.split(","))
        return lines(
            f"server_name: {quoted(f'{node}-{self.machine}' if self.machine else node)}",
            f"listen: {quoted(self.listen)}",
            f"http: {quoted(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2',
            f"jetstream {{ store_dir: {quoted(self.store_dir)}, domain: {quoted(domain(node))},"
            f" max_file: {self.max_file_bytes} }}",
            f'mqtt {{ listen: {quoted(self.mqtt_listen)}, consumer_inactive_threshold: "24h", {tls} }}',
            tls,
            f'leafnodes {{ reconnect: "1s", remotes: [ {{ urls: {urls}, account: EDGE, {trust.link_tls()} }} ] }}',
            "accounts {",
            "  EDGE {\n    jetstream: enabled",
            users(trust.edge_users()),
            "  }\n  SYS {",
            users(trust.system_users()),
            "  }\n}\nsystem_account: SYS",
        )
