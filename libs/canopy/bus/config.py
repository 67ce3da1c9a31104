"""Configurations of the hub's and a leaf's nats-server, made from the catalogue and the roles. Pure: text out.

Who writes them to files: the one-command start and the tests; the deployment's images in their own way.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from canopy.bus.conftext import Variable, lines, listed, quoted, user, users
from canopy.bus.rights import (
    CLOUD,
    EDGE,
    Permissions,
    cloud_rights,
    device_permissions,
    domain,
    edge_rights,
    node_rights,
    permissions,
)
from canopy.bus.trust import HubTrust, LeafTrust
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS

__all__ = [
    "CLOUD",
    "DEVICES",
    "EDGE",
    "HUB",
    "ROUTE",
    "Cluster",
    "Hub",
    "HubTrust",
    "Leaf",
    "LeafTrust",
    "Permissions",
    "Variable",
    "domain",
    "node_account",
    "node_files",
    "permissions",
    "route_url",
]
NODE_ACCOUNTS = 16
_NODE_ACCOUNTS = tuple(f"NODES-{number}" for number in range(NODE_ACCOUNTS))
MAX_PAYLOAD_BYTES = 256 * 1024
HUB = "hub"
"""The name of the hub: of its one server, or of its cluster; and its JetStream domain."""
ROUTE = "route"
"""The user of the servers of a clustered hub among themselves."""
DEVICES = "devices"
"""The user of whoever speaks MQTT to the plain loopback port."""


def node_account(node: str) -> str:
    """The hub's account of a node: one of 16, by a hash of its name."""
    return f"NODES-{zlib.crc32(node.encode()) % NODE_ACCOUNTS}"


def node_files(nodes: Mapping[str, str]) -> dict[str, str]:
    """`nodes` (passwords by name) as the files that a hub with `nodes_folder` includes: one an account, by its name."""
    return {f"{account}.conf": _node_users(account, nodes) + "\n" for account in _NODE_ACCOUNTS}


@dataclass(frozen=True, slots=True)
class Cluster:
    """One of the servers of a clustered hub: its own name, where the others reach it and with what password, and where
    it reaches them (`route_url` of each)."""

    name: str
    listen: str
    password: str
    routes: tuple[str, ...]

    def text(self, trust: HubTrust | None = None) -> str:
        """The block `cluster`. Clients and leaves are given every address: what a server adds of its own
        (an address inside a container's network) would only mislead them."""
        return lines(
            f"cluster {{ name: {HUB}, listen: {quoted(self.listen)}, no_advertise: true,",
            f"  {trust.tls()}" if trust else "",
            f"  authorization {{ user: {ROUTE}, password: {quoted(self.password)} }}, routes: {listed(self.routes)} }}",
        )


def route_url(address: str, password: str) -> str:
    """Where a server of a clustered hub reaches another (host:port). The credentials have to stand in it."""
    return f"nats-route://{ROUTE}:{password}@{address}"


@dataclass(frozen=True, slots=True)
class Hub:
    """The hub, or one of its servers. `passwords` by unit (and CLOUD for folded ones); `nodes` are the passwords of
    the nodes' leaves."""

    store_dir: str
    passwords: Mapping[str, str]
    nodes: Mapping[str, str]
    listen: str = "127.0.0.1:4222"
    leaf_listen: str = "127.0.0.1:7422"
    http: str = ""
    cluster: Cluster | None = None
    nodes_folder: str = ""
    """Not empty: the nodes' users are not in this file but in `node_files` there, which may change by themselves."""
    trust: HubTrust | None = None
    """Every connection bears a certificate, and the callout lets it in: nobody has a password then."""

    def text(self) -> str:
        """The configuration file."""
        trust = self.trust
        if trust and (self.passwords or self.nodes or self.nodes_folder):
            raise ValueError("a hub with trust has no passwords: the auth callout lets everybody in")
        return lines(
            f"server_name: {quoted(self.cluster.name) if self.cluster else HUB}",
            f"listen: {quoted(self.listen)}",
            f"http: {quoted(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2\nwrite_deadline: "10s"',
            f"jetstream {{ store_dir: {quoted(self.store_dir)}, domain: {HUB} }}",
            f"leafnodes {{ listen: {quoted(self.leaf_listen)}, no_advertise: true, isolate_leafnode_interest: true,"
            f" compression: off{f', {trust.tls()}' if trust else ''} }}",
            self.cluster.text(trust) if self.cluster else "",
            f"{trust.tls()}\n{trust.authorization()}" if trust else "",
            "accounts {",
            *self._cloud(),
            *map(self._nodes, _NODE_ACCOUNTS),
            trust.accounts() if trust else "  SYS {}",
            "}\nsystem_account: SYS",
        )

    def _cloud(self) -> list[str]:
        names = [u for u in (*CLOUD_UNITS, CLOUD) if u in self.passwords]
        found = [user(u, self.passwords[u], cloud_rights(u)) for u in names]
        found += self.trust.cloud_users() if self.trust else []
        exports = '[ { service: "node.*.ask.>" }, { stream: "node.*.in.*.push.>" } ]'
        return ["  CLOUD {\n    jetstream: enabled", f"    exports: {exports}", users(found), "  }"]

    def _nodes(self, account: str) -> str:
        imports = (
            '[ { service: { account: CLOUD, subject: "node.*.ask.>" } },'
            ' { stream: { account: CLOUD, subject: "node.*.in.*.push.>" } } ]'
        )
        folder = self.nodes_folder
        found = f"    include {quoted(f'{folder}/{account}.conf')}" if folder else _node_users(account, self.nodes)
        return lines(f"  {account} {{", f"    imports: {imports}", found, "  }")


def _node_users(account: str, nodes: Mapping[str, str]) -> str:
    return users([user(n, nodes[n], node_rights(n)) for n in sorted(nodes) if node_account(n) == account])


@dataclass(frozen=True, slots=True)
class Leaf:
    """A node's leaf. `passwords` by unit (and EDGE for folded ones); devices need none on the loopback MQTT port.
    `hub_url` may name several servers of one hub, with commas."""

    node: str
    store_dir: str
    passwords: Mapping[str, str]
    hub_url: str
    listen: str = "127.0.0.1:4222"
    mqtt_listen: str = "127.0.0.1:1883"
    http: str = ""
    max_file_bytes: int = 256 * 1024 * 1024
    device_password: str = ""
    """Not empty: MQTT clients must give user `devices` and this (outside loopback)."""
    machine: str = ""
    """What no other machine says, made anew by who writes this file. A hub lets only one leaf of a name stay: two
    machines that bear one identity would throw each other out every second, before either is told of the other."""
    trust: LeafTrust | None = None
    """Every connection bears a certificate that names its user: nobody has a password then, devices neither."""

    def text(self) -> str:
        """The configuration file."""
        trust = self.trust
        if trust and (self.passwords or self.device_password):
            raise ValueError("a leaf with trust has no passwords: certificates name who connects")
        link = f", {trust.link_tls()}" if trust else ""
        mqtt = f", {trust.listener_tls()}" if trust else "" if self.device_password else f", no_auth_user: {DEVICES}"
        return lines(
            f"server_name: {quoted(f'{self.node}-{self.machine}' if self.machine else self.node)}",
            f"listen: {quoted(self.listen)}",
            f"http: {quoted(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2',
            f"jetstream {{ store_dir: {quoted(self.store_dir)}, domain: {quoted(domain(self.node))},"
            f" max_file: {self.max_file_bytes} }}",
            f'mqtt {{ listen: {quoted(self.mqtt_listen)}, consumer_inactive_threshold: "24h"{mqtt} }}',
            trust.listener_tls() if trust else "",
            f'leafnodes {{ reconnect: "1s", remotes: [ {{ {self._hub()}, account: EDGE{link} }} ] }}',
            "accounts {",
            "  EDGE {\n    jetstream: enabled",
            users(trust.edge_users() if trust else self._users()),
            "  }",
            lines("  SYS {", users(trust.system_users()), "  }") if trust else "  SYS {}",
            "}\nsystem_account: SYS",
        )

    def _hub(self) -> str:
        if isinstance(self.hub_url, Variable):
            return f"url: {quoted(self.hub_url)}"
        one, *more = (quoted(url) for url in self.hub_url.split(","))
        return f"urls: [{', '.join((one, *more))}]" if more else f"url: {one}"

    def _users(self) -> list[str]:
        names = [u for u in (*EDGE_UNITS, EDGE) if u in self.passwords]
        found = [user(u, self.passwords[u], edge_rights(u, self.node, EDGE_UNITS)) for u in names]
        return [*found, user(DEVICES, self.device_password or DEVICES, device_permissions())]
