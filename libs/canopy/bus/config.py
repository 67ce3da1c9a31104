"""Configurations of the hub's and a leaf's nats-server, made from the catalogue and the roles. Pure: text out.

Who writes them to files: the one-command start and the tests; the deployment's images in their own way.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from canopy.bus.leaf import LINKED
from canopy.contracts import catalogue as c
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, ROLES, STREAMS, Role, folded
from canopy.contracts.subject import AnySubject, check_token

NODE_ACCOUNTS = 16
_NODE_ACCOUNTS = tuple(f"NODES-{number}" for number in range(NODE_ACCOUNTS))
MAX_PAYLOAD_BYTES = 256 * 1024
EDGE = "edge"
"""The user of folded edge units: the union of their rights."""
CLOUD = "cloud"
"""The user of folded cloud units."""
HUB = "hub"
"""The name of the hub: of its one server, or of its cluster; and its JetStream domain."""
ROUTE = "route"
"""The user of the servers of a clustered hub among themselves."""
DEVICES = "devices"
"""The user of whoever speaks MQTT to the plain loopback port."""


class Variable(str):
    """The name of a variable in nats-server's environment that holds a value: written `$NAME`, so that no password
    stands in a file. Read like the file's own text: let a value begin with a letter, for 12e3 would be a number."""


def node_account(node: str) -> str:
    """The hub's account of a node: one of 16, by a hash of its name."""
    return f"NODES-{zlib.crc32(node.encode()) % NODE_ACCOUNTS}"


def node_files(nodes: Mapping[str, str]) -> dict[str, str]:
    """`nodes` (passwords by name) as the files that a hub with `nodes_folder` includes: one an account, by its name."""
    return {f"{account}.conf": _node_users(account, nodes) + "\n" for account in _NODE_ACCOUNTS}


def domain(node: str) -> str:
    """The JetStream domain of a node."""
    return check_token("node", node).replace(".", "_")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a server lets a user publish and subscribe."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: bool = False


def permissions(role: Role, inboxes: Iterable[str], node: str = "") -> Permissions:
    """The rights of a role, on `node` if it is an edge unit's."""
    fixed = {"node": node} if node else {}

    def wilds(subjects: Iterable[AnySubject]) -> list[str]:
        return [w for s in subjects for w in s.wilds(**{k: v for k, v in fixed.items() if f"{{{k}}}" in s.pattern})]

    inbox = [f"_INBOX.{i}.>" for i in inboxes]
    publish = wilds(role.says) + wilds(role.asks) + _stream_rights(role) + (_gateway_rights() if role.gateway else [])
    subscribe = wilds(role.serves) + [w for w in wilds(role.hears) if not w.startswith("node.")] + inbox
    if c.PUSH in role.hears:
        subscribe.append(f"node.{domain(node)}.in.>")
        publish.append(LINKED)
    return Permissions(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(subscribe)), bool(role.serves))


def _stream_rights(role: Role) -> list[str]:
    api = "$JS.API"
    rights = [STREAMS[s].wild() for s in role.writes]
    for s in role.writes:
        rights += [f"{api}.STREAM.CREATE.{s}", f"{api}.STREAM.UPDATE.{s}"]
    rights += [f"{api}.STREAM.PURGE.{s}" for s in role.purges]
    for s in dict.fromkeys((*role.writes, *role.purges, *role.reads)):
        rights += [f"{api}.STREAM.INFO.{s}", f"{api}.STREAM.MSG.GET.{s}", f"$JS.FC.{s}.>"]
        rights += [f"{api}.CONSUMER.CREATE.{s}.*", f"{api}.CONSUMER.DELETE.{s}.*"]
    return rights


def _gateway_rights() -> list[str]:
    api, s = "$JS.API", c.MQTT_STREAM
    stream = [f"{api}.STREAM.{verb}.{s}" for verb in ("CREATE", "UPDATE", "INFO")]
    return [
        *stream,
        f"{api}.CONSUMER.DURABLE.CREATE.{s}.*",
        f"{api}.CONSUMER.RESET.{s}.*",
        f"{api}.CONSUMER.MSG.NEXT.{s}.*",
        f"$JS.ACK.{s}.>",
        f"$JS.ACK.*.*.{s}.>",
    ]


def device_permissions() -> Permissions:
    """Devices on the plain loopback port: they speak on the contract's topics, and hear all of `$hw/events/`."""
    publish = (*(s.wild() for s in c.MQTT_IN), "$MQTT.deliver.pubrel.>")
    return Permissions(publish, ("$hw.events.>", "$MQTT.sub.>"))


@dataclass(frozen=True, slots=True)
class Cluster:
    """One of the servers of a clustered hub: its own name, where the others reach it and with what password, and where
    it reaches them (`route_url` of each)."""

    name: str
    listen: str
    password: str
    routes: tuple[str, ...]

    def text(self) -> str:
        """The block `cluster`. Clients and leaves are given every address: what a server adds of its own
        (an address inside a container's network) would only mislead them."""
        return _lines(
            f"cluster {{ name: {HUB}, listen: {_q(self.listen)}, no_advertise: true,",
            f"  authorization {{ user: {ROUTE}, password: {_q(self.password)} }}, routes: {_allow(self.routes)} }}",
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

    def text(self) -> str:
        """The configuration file."""
        return _lines(
            f"server_name: {_q(self.cluster.name) if self.cluster else HUB}",
            f"listen: {_q(self.listen)}",
            f"http: {_q(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2\nwrite_deadline: "10s"',
            f"jetstream {{ store_dir: {_q(self.store_dir)}, domain: {HUB} }}",
            f"leafnodes {{ listen: {_q(self.leaf_listen)}, no_advertise: true, isolate_leafnode_interest: true,"
            f" compression: off }}",
            self.cluster.text() if self.cluster else "",
            "accounts {",
            *self._cloud(),
            *map(self._nodes, _NODE_ACCOUNTS),
            "  SYS {}\n}\nsystem_account: SYS",
        )

    def _cloud(self) -> list[str]:
        users = [_user(u, self.passwords[u], permissions(ROLES[u], [u])) for u in CLOUD_UNITS if u in self.passwords]
        if CLOUD in self.passwords:
            users.append(_user(CLOUD, self.passwords[CLOUD], permissions(folded(CLOUD_UNITS), CLOUD_UNITS)))
        exports = '[ { service: "node.*.ask.>" }, { stream: "node.*.in.*.push.>" } ]'
        return ["  CLOUD {\n    jetstream: enabled", f"    exports: {exports}", _users(users), "  }"]

    def _nodes(self, account: str) -> str:
        imports = (
            '[ { service: { account: CLOUD, subject: "node.*.ask.>" } },'
            ' { stream: { account: CLOUD, subject: "node.*.in.*.push.>" } } ]'
        )
        folder = self.nodes_folder
        users = f"    include {_q(f'{folder}/{account}.conf')}" if folder else _node_users(account, self.nodes)
        return _lines(f"  {account} {{", f"    imports: {imports}", users, "  }")


def _node_users(account: str, nodes: Mapping[str, str]) -> str:
    return _users([_user(n, nodes[n], _node_permissions(n)) for n in sorted(nodes) if node_account(n) == account])


def _node_permissions(node: str) -> Permissions:
    name = domain(node)
    return Permissions((f"node.{name}.ask.>",), (f"node.{name}.in.>",))


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
    extra: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The configuration file."""
        anonymous = "" if self.device_password else f", no_auth_user: {DEVICES}"
        return _lines(
            f"server_name: {_q(f'{self.node}-{self.machine}' if self.machine else self.node)}",
            f"listen: {_q(self.listen)}",
            f"http: {_q(self.http)}" if self.http else "",
            f"max_payload: {MAX_PAYLOAD_BYTES}",
            'ping_interval: "5s"\nping_max: 2',
            f"jetstream {{ store_dir: {_q(self.store_dir)}, domain: {_q(domain(self.node))},"
            f" max_file: {self.max_file_bytes} }}",
            f'mqtt {{ listen: {_q(self.mqtt_listen)}, consumer_inactive_threshold: "24h"{anonymous} }}',
            f'leafnodes {{ reconnect: "1s", remotes: [ {{ {self._hub()}, account: EDGE }} ] }}',
            "accounts {",
            "  EDGE {\n    jetstream: enabled",
            _users(self._users()),
            "  }",
            "  SYS {}\n}\nsystem_account: SYS",
        )

    def _hub(self) -> str:
        if isinstance(self.hub_url, Variable):
            return f"url: {_q(self.hub_url)}"
        one, *more = (_q(url) for url in self.hub_url.split(","))
        return f"urls: [{', '.join((one, *more))}]" if more else f"url: {one}"

    def _users(self) -> list[str]:
        users = [
            _user(u, self.passwords[u], permissions(ROLES[u], [u], self.node))
            for u in EDGE_UNITS
            if u in self.passwords
        ]
        if EDGE in self.passwords:
            users.append(_user(EDGE, self.passwords[EDGE], permissions(folded(EDGE_UNITS), EDGE_UNITS, self.node)))
        return [*users, _user(DEVICES, self.device_password or DEVICES, device_permissions())]


def _user(name: str, password: str, rights: Permissions) -> str:
    responses = ", allow_responses: true" if rights.responses else ""
    return (
        f"      {{ user: {_q(name)}, password: {_q(password)}, permissions: {{ publish: {_allow(rights.publish)},"
        f" subscribe: {_allow(rights.subscribe)}{responses} }} }}"
    )


def _users(users: list[str]) -> str:
    return _lines("    users: [", *users, "    ]") if users else ""


def _allow(values: Iterable[str]) -> str:
    """An empty list would allow everything."""
    values = list(values)
    if not values:
        return '{ deny: ">" }'
    return "[" + ", ".join(_q(v) for v in values) + "]"


def _q(value: str) -> str:
    return f"${value}" if isinstance(value, Variable) else json.dumps(value)


def _lines(*parts: str) -> str:
    return "\n".join(p for p in parts if p)
