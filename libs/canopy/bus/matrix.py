"""Every kind of peer x every family of subjects: what the servers let through, worked out from the rights alone. Pure.

`docs/permissions.md` is made from it (`python -m canopy.bus.matrix`), and a test tries every cell at real servers.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from canopy.bus.rights import (
    CALLOUT,
    CLOUD,
    EDGE,
    Permissions,
    app_rights,
    callout_rights,
    cloud_rights,
    device_rights,
    edge_rights,
    hub_system_rights,
    leaf_system_rights,
    node_rights,
)
from canopy.contracts import catalogue as c
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, EDGEIDENTITY, SPIRE_INTEGRATION, STREAMS

NODE, OTHER_NODE = "edge.1", "edge-2"
DEVICE, OTHER_DEVICE = ("default", "lamp"), ("default", "other")
OWN = {"node": NODE, "namespace": DEVICE[0], "name": DEVICE[1], "nonce": "n1", "unit": "u1", "id": "i1", "asker": "a1"}
ANOTHERS = {**OWN, "node": OTHER_NODE, "name": OTHER_DEVICE[1]}


@dataclass(frozen=True, slots=True)
class Peer:
    """A kind of SPIFFE ID at a server: `id` is its pattern, `account` where it is let in, `way` how it connects."""

    name: str
    id: str
    account: str
    rights: Permissions
    way: str = "NATS"


@dataclass(frozen=True, slots=True)
class Family:
    """Subjects of one kind, with an address that stands for them; `another` tells those of another node or device."""

    name: str
    address: str
    another: bool = False


def at_hub() -> tuple[Peer, ...]:
    """Who connects to the hub. Every other certificate of the fleet is refused there."""
    td = "{td}"
    units = [Peer(u, f"spiffe://{td}/cloud/{u}", "CLOUD", cloud_rights(u)) for u in (*CLOUD_UNITS, CLOUD)]
    own = f"spiffe://{td}/cloud/{SPIRE_INTEGRATION}"
    return (
        *units,
        Peer(SPIRE_INTEGRATION, own, "CLOUD", cloud_rights(SPIRE_INTEGRATION), "NATS, with a key"),
        Peer("its callout", own, "AUTH", callout_rights(), "NATS, with a key"),
        Peer("its system", own, "SYS", hub_system_rights(), "NATS, with a key"),
        Peer("a node", f"spiffe://{td}/node/{{node}}", "NODES-k", node_rights(NODE), "leaf node"),
    )


def at_leaf() -> tuple[Peer, ...]:
    """Who connects to the leaf of NODE. Every other certificate of the node is refused there."""
    td = "spiffe://{node}.{td}"
    units = (*EDGE_UNITS, EDGEIDENTITY, EDGE)
    return (
        *(Peer(u, f"{td}/{u}", "EDGE", edge_rights(u, NODE)) for u in units),
        Peer("system", f"{td}/system", "SYS", leaf_system_rights()),
        Peer("a device", f"{td}/device/{{namespace}}/{{name}}", "EDGE", device_rights(*DEVICE, NODE), "MQTT"),
        Peer("an app", f"{td}/app/{{name}}", "EDGE", app_rights(NODE), "MQTT"),
    )


def families() -> tuple[Family, ...]:
    """Every subject of the catalogue, of oneself and of another where that differs, and what is the servers' own."""
    return (*_of_catalogue(), *_of_streams(), *(Family(name, address) for name, address in _SERVERS.items()))


def _of_catalogue() -> Iterator[Family]:
    for subject in c.subjects().values():
        first = {place: words[0] for place, words in subject.listed.items()}
        own, another = (
            subject.at(**{**OWN, "channel": "c1", **first}),
            subject.at(**{**ANOTHERS, "channel": "c1", **first}),
        )
        yield Family(subject.pattern, own)
        if another != own:
            yield Family(subject.pattern, another, another=True)


def _of_streams() -> Iterator[Family]:
    """What is asked of JetStream about each stream of ours."""
    for stream in (*STREAMS, c.MQTT_STREAM):
        for verb in ("STREAM.CREATE", "STREAM.UPDATE", "STREAM.PURGE", "STREAM.INFO", "STREAM.MSG.GET"):
            yield Family(f"$JS.API.{verb}.{stream}", f"$JS.API.{verb}.{stream}")
        for verb in ("CREATE", "DELETE", "DURABLE.CREATE", "RESET", "MSG.NEXT"):
            yield Family(f"$JS.API.CONSUMER.{verb}.{stream}.*", f"$JS.API.CONSUMER.{verb}.{stream}.c1")
        yield Family(f"$JS.FC.{stream}.>", f"$JS.FC.{stream}.c1.1")
        yield Family(f"$JS.ACK.{stream}.>", f"$JS.ACK.{stream}.c1.1.1.1.1.0")
        yield Family(f"$JS.ACK.*.*.{stream}.>", f"$JS.ACK.d.h.{stream}.c1.1.1.1.1.0")


_SERVERS: Mapping[str, str] = {
    ">": ">",
    "*.>": "*.>",
    "node.>": "node.>",
    "$hw.>": "$hw.>",
    "_INBOX.>": "_INBOX.>",
    "somebody's inbox": "_INBOX.somebody.i1",
    "the mapper's inbox": "_INBOX.mapper.i1",
    "cloudhub's inbox": "_INBOX.cloudhub.i1",
    "_R_.>": "_R_.i1",
    "$JS.API.>": "$JS.API.>",
    "$JS.API.STREAM.DELETE.*": "$JS.API.STREAM.DELETE.TWINS",
    "$JS.API.STREAM.CREATE of another": "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.DIRECT.GET.*": "$JS.API.DIRECT.GET.TWINS",
    "$JS.API.CONSUMER.CREATE.$MQTT_sess": "$JS.API.CONSUMER.CREATE.$MQTT_sess.c1",
    "$JS.API.STREAM.MSG.GET.$MQTT_sess": "$JS.API.STREAM.MSG.GET.$MQTT_sess",
    "$JS.ACK.>": "$JS.ACK.>",
    "$MQTT.>": "$MQTT.>",
    "$MQTT.msgs.>": f"{c.MQTT_STORED}{c.TWIN_UPDATE.at(**OWN)}",
    "$MQTT.deliver.pubrel.>": "$MQTT.deliver.pubrel.c1",
    "$SYS.>": "$SYS.>",
    "$SYS._INBOX.>": "$SYS._INBOX.i1.i2",
    "$SYS.REQ.SERVER.PING": "$SYS.REQ.SERVER.PING",
    "$SYS.REQ.SERVER.{id}.KICK": "$SYS.REQ.SERVER.S1.KICK",
    "$SYS.REQ.SERVER.{id}.RELOAD": "$SYS.REQ.SERVER.S1.RELOAD",
    "$SYS.REQ.ACCOUNT.PING.STATZ": "$SYS.REQ.ACCOUNT.PING.STATZ",
    CALLOUT: CALLOUT,
}
"""What servers hear and say themselves: whoever may speak there goes around everything else."""


def may(allowed: Iterable[str], address: str) -> bool:
    """Whether one of the subjects of an allow list covers `address`, which may hold wildcards itself."""
    return any(_covers(one.split("."), address.split(".")) for one in allowed)


def _covers(allowed: list[str], asked: list[str]) -> bool:
    for at, word in enumerate(allowed):
        if word == ">":
            return len(asked) > at
        if at >= len(asked) or asked[at] == ">" or word not in (asked[at], "*"):
            return False
    return len(allowed) == len(asked)


def cell(peer: Peer, family: Family) -> str:
    """p: may publish, s: may subscribe."""
    rights = peer.rights
    return "p" * may(rights.publish, family.address) + "s" * may(rights.subscribe, family.address)


# --- the page --------------------------------------------------------------------------------------------------------
_HEAD = """# Permissions
What each kind of certificate may publish (p) and subscribe (s), by family of subjects. The servers hold it: at the hub
the auth callout gives a connection these rights, at a leaf they stand in its configuration by SPIFFE ID. What is in no
table is refused. This page is made by `python -m canopy.bus.matrix` from the catalogue and the roles, and a test tries
every cell at real servers.

Whoever serves something may answer into the inboxes of those who may ask it; what nodes ask comes to the hub's own
account with a reply subject under `_R_`. *another's*: of another node, or of another device of this node.
"""
_PARTS = (
    ("At the hub", "Certificates of the fleet's trust domain `{td}`; any other one ends in the TLS handshake.", at_hub),
    (
        "At the leaf of a node",
        "Certificates of the node's own trust domain `{node}.{td}`, which are worth nothing at the hub or at another "
        "node.\nUnits speak NATS and no MQTT, devices and apps MQTT and no NATS.",
        at_leaf,
    ),
)


def page() -> str:
    """`docs/permissions.md`."""
    return _HEAD + "".join(f"\n## {title}\n{prose}\n\n{_part(peers())}" for title, prose, peers in _PARTS)


def _part(peers: tuple[Peer, ...]) -> str:
    who = ["| who | SPIFFE ID | comes by | account |", "|---|---|---|---|"]
    who += [f"| {p.name} | `{p.id}` | {p.way} | {p.account} |" for p in peers]
    head = ["", f"| subject | {' | '.join(p.name for p in peers)} |", "|---" * (len(peers) + 1) + "|"]
    rows, shown = list[str](), set[str]()
    for family in families():
        cells = [cell(peer, family) for peer in peers]
        if any(cells):
            name = f"`{family.name}`" + " (another's)" * family.another
            rows.append(f"| {name} | {' | '.join(text or ' ' for text in cells)} |")
            shown.add(family.name)
    nobody = dict.fromkeys(f.name for f in families() if f.name not in shown)
    return "\n".join([*who, *head, *rows, "", f"Nobody here: {', '.join(f'`{name}`' for name in nobody)}.", ""])


if __name__ == "__main__":
    import sys

    sys.stdout.write(page())
