"""What each kind of peer may publish and subscribe, made from the catalogue and the roles. Pure.

`config` and `trust` write it into the servers' configurations, `admission` hands it to the auth callout, and
`docs/permissions.md` shows it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from canopy.bus.leaf import LINKED
from canopy.contracts import catalogue as c
from canopy.contracts.roles import (
    CLOUD_UNITS,
    EDGE_UNITS,
    EDGEIDENTITY,
    ROLES,
    SPIRE_INTEGRATION,
    STREAMS,
    Role,
    folded,
)
from canopy.contracts.subject import AnySubject, check_token

EDGE = "edge"
"""The user of folded edge units: the union of their rights."""
CLOUD = "cloud"
"""The user of folded cloud units."""
NODES_REPLIES = "_R_.>"
"""Where the hub brings answers to what nodes ask, in an account that is not theirs."""


def domain(node: str) -> str:
    """The JetStream domain of a node."""
    return check_token("node", node).replace(".", "_")


@dataclass(frozen=True, slots=True)
class Permissions:
    """What a server lets a user publish and subscribe."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions(role: Role, inboxes: Iterable[str], node: str = "") -> Permissions:
    """The rights of a role, on `node` if it is an edge unit's; without where it may answer."""
    fixed = {"node": node} if node else {}

    def wilds(subjects: Iterable[AnySubject]) -> list[str]:
        return [w for s in subjects for w in s.wilds(**{k: v for k, v in fixed.items() if f"{{{k}}}" in s.pattern})]

    inbox = [_inbox(i) for i in inboxes]
    publish = wilds(role.says) + wilds(role.asks) + _stream_rights(role) + (_gateway_rights() if role.gateway else [])
    subscribe = wilds(role.serves) + [w for w in wilds(role.hears) if not w.startswith("node.")] + inbox
    if c.PUSH in role.hears:
        subscribe.append(f"node.{domain(node)}.in.>")
        publish.append(LINKED)
    return Permissions(tuple(dict.fromkeys(publish)), tuple(dict.fromkeys(subscribe)))


def _inbox(unit: str) -> str:
    """Where the answers to a unit's asks come."""
    return f"_INBOX.{unit}.>"


def cloud_rights(unit: str) -> Permissions:
    """A unit of the cloud, or CLOUD for folded ones."""
    role, inboxes = (folded(CLOUD_UNITS), CLOUD_UNITS) if unit == CLOUD else (ROLES[unit], (unit,))
    found = _answering(permissions(role, inboxes), role, (*CLOUD_UNITS, SPIRE_INTEGRATION))
    linked = any(s.pattern.startswith("node.") for s in role.serves)
    return replace(found, publish=(*found.publish, NODES_REPLIES)) if linked else found


def edge_rights(unit: str, node: str) -> Permissions:
    """A unit of `node`, or EDGE for folded ones."""
    folds = (*EDGE_UNITS, EDGEIDENTITY)
    role, inboxes = (folded(folds), folds) if unit == EDGE else (ROLES[unit], (unit,))
    return _answering(permissions(role, inboxes, node), role, folds)


def _answering(found: Permissions, role: Role, units: Iterable[str]) -> Permissions:
    """Where it may answer is said outright: what a server lets somebody answer because it was asked is forgotten at
    each reload, and by reloads devices come and go, and the certificates of servers."""
    askers = [u for u in units if any(s in role.serves for s in ROLES[u].asks)]
    return replace(found, publish=(*found.publish, *(_inbox(u) for u in askers)))


def node_rights(node: str) -> Permissions:
    """A node's leaf at the hub."""
    name = domain(node)
    return Permissions((f"node.{name}.ask.>",), (f"node.{name}.in.>",))


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


# --- devices and apps of a node --------------------------------------------------------------------------------------
MQTT_PUBREL = "$MQTT.deliver.pubrel.>"
"""Where the gateway tells itself of a QoS 2 message, in the client's name."""
MQTT_DELIVERED = "$MQTT.sub.>"
"""Where the gateway hears, in the client's name, what is stored for its subscriptions of QoS 1 and 2."""
DEVICE_OUT = (
    c.TWIN_UPDATE_RESULT,
    c.TWIN_DOCUMENT,
    c.MQTT_DELTA,
    c.TWIN_GET_RESULT,
    c.STATE_UPDATE_RESULT,
)


def device_permissions() -> Permissions:
    """Whoever comes by a node's plain port: it speaks on the contract's topics, and hears all of `$hw/events/`."""
    publish = (*(s.wild() for s in c.MQTT_IN), MQTT_PUBREL)
    return Permissions(publish, ("$hw.events.>", MQTT_DELIVERED))


def device_rights(namespace: str, name: str, node: str) -> Permissions:
    """One device of `node`, with a certificate: it speaks as itself, and hears what is for it."""
    mine = {"namespace": namespace, "name": name}
    publish = [s.wild(**mine) for s in (c.TWIN_UPDATE, c.TWIN_GET, c.STATE_UPDATE)]
    hears = [s.wild(**mine) for s in DEVICE_OUT]
    members = [s.wild(node=node) for s in (c.MEMBERSHIP_RESULT, c.MEMBERSHIP_UPDATED)]
    return Permissions((*publish, c.MEMBERSHIP_GET.wild(node=node)), (*hears, *members))


def app_rights(node: str) -> Permissions:
    """An app of `node`: it hears the twins of the node's devices, and says nothing."""
    return Permissions((), (c.TWIN_DOCUMENT.wild(), c.MEMBERSHIP_UPDATED.wild(node=node)))


# --- who keeps the servers -------------------------------------------------------------------------------------------
CALLOUT = "$SYS.REQ.USER.AUTH"
"""Where a hub's server asks whether a peer may come in."""


def callout_rights() -> Permissions:
    """spire_integration in AUTH: hears who wants to come in, and answers the servers."""
    return Permissions(("$SYS._INBOX.>",), (CALLOUT,))


_SERVERS = ("CONNZ", "LEAFZ", "VARZ", "KICK", "RELOAD")


def hub_system_rights() -> Permissions:
    """spire_integration in SYS of the hub: who is there, throw somebody out, take a new configuration."""
    return _system(_SERVERS, ("$SYS.ACCOUNT.>", "$SYS.SERVER.>"))


def leaf_system_rights() -> Permissions:
    """edgeidentity in SYS of its leaf: the same, and it hears who came and who was refused."""
    heard = (f"$SYS.ACCOUNT.{account}.{what}" for account in ("EDGE", "SYS") for what in ("CONNECT", "DISCONNECT"))
    return _system(_SERVERS, (*heard, "$SYS.SERVER.*.CLIENT.AUTH.ERR"))


def _system(verbs: Iterable[str], hears: Iterable[str]) -> Permissions:
    one = [f"$SYS.REQ.SERVER.*.{verb}" for verb in verbs]
    return Permissions((*one, "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.*"), ("_INBOX.>", *hears))
