"""`canopy nats hub` and `canopy nats leaf`: configurations of nats-server for a deployment, without any password."""

import sys
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import typer

from canopy.bus import config as c
from canopy.bus.config import Cluster, Hub, Leaf, Variable
from canopy.bus.trust import HubTrust
from canopy.cli.failure import EXIT_CODES, Failure, UsageFailure
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS
from canopy.contracts.subject import BadToken, check_token
from canopy.runtime.settings import is_loopback

STORE = "/var/lib/canopy"
NODES = "../nodes"
HELP = f"""Configurations of nats-server, made from the catalogue of messages: who may say what.

Passwords are variables that nats-server reads from its environment: CANOPY_PASSWORD_CLOUDHUB and so on. A value has to
begin with a letter.

\b
Examples:
  canopy nats hub --servers 3 > hub.conf
  canopy nats leaf edge-7 > leaf.conf

{EXIT_CODES}
"""
HUB_HELP = f"""Print the configuration of a hub, or of each server of a clustered one.

The servers of a cluster have one file: CANOPY_SERVER_NAME names each, CANOPY_ROUTE_0 and so on are the addresses of all
(nats-route://route:PASSWORD@HOST:6222), CANOPY_PASSWORD_ROUTE is what they ask of each other. The users of nodes are in
{NODES}/NODES-0.conf to NODES-15.conf, beside the folder of the file.

With --identity nobody has a password but those servers: the folder holds the hub's svid.pem and bundle.pem, the auth
callout of spire_integration lets in, and its public nkeys are CANOPY_NKEY_ISSUER, _AUTH, _CLOUD and _SYS.

\b
Examples:
  canopy nats hub > hub.conf
  canopy nats hub --servers 3 --identity /run/canopy > hub.conf
  canopy nats hub --servers 3 --listen 0.0.0.0 > hub.conf

{EXIT_CODES}
"""
LEAF_HELP = f"""Print the configuration of a node's leaf: its local bus, JetStream and MQTT gateway.

CANOPY_HUB_URL is where it joins the hub: nats-leaf://NODE:PASSWORD@HOST:7422; with --hub and --password-file that is
written into the file. Beyond loopback, MQTT clients give the user `devices` and CANOPY_PASSWORD_DEVICES.

\b
Examples:
  canopy nats leaf edge-7 > leaf.conf
  canopy nats leaf edge-7 --mqtt 0.0.0.0:1883 --hub hub.example:7422 --password-file /run/node --to leaf.conf

{EXIT_CODES}
"""
Listen = Annotated[str, typer.Option("--listen", help="Address to listen on.")]
Store = Annotated[str, typer.Option("--store", help="Folder of what is kept.")]
To = Annotated[str, typer.Option("--to", help="A file to write; else standard output.")]


def commands(group: typer.Typer) -> typer.Typer:
    group.info.help = HELP
    group.command("hub", help=HUB_HELP)(hub)
    group.command("leaf", help=LEAF_HELP)(leaf)
    return group


def hub(
    servers: Annotated[int, typer.Option("--servers", min=1, max=5, help="How many servers the hub has.")] = 1,
    listen: Listen = "0.0.0.0",  # noqa: S104 - a server of its own container
    store: Store = STORE,
    to: To = "",
    identity: Annotated[str, typer.Option("--identity", help="Folder of the hub's identity; empty: passwords.")] = "",
) -> None:
    routes = tuple(Variable(f"CANOPY_ROUTE_{number}") for number in range(servers))
    cluster = Cluster(Variable("CANOPY_SERVER_NAME"), f"{listen}:6222", _password(c.ROUTE), routes)
    found = Hub(
        store,
        {} if identity else {unit: _password(unit) for unit in CLOUD_UNITS},
        {},
        f"{listen}:4222",
        f"{listen}:7422",
        f"{listen}:8222",
        cluster if servers > 1 else None,
        "" if identity else NODES,
        _trust(Path(identity)) if identity else None,
    )
    _say(found.text(), to)


def _trust(folder: Path) -> HubTrust:
    nkeys = (Variable(f"CANOPY_NKEY_{name}") for name in ("ISSUER", "AUTH", "CLOUD", "SYS"))
    return HubTrust(str(folder / "svid.pem"), str(folder / "bundle.pem"), *nkeys)


def leaf(
    node: Annotated[str, typer.Argument(help="The node's name, as Kubernetes has it.")],
    mqtt: Annotated[str, typer.Option("--mqtt", help="Where MQTT clients connect: host:port.")] = "127.0.0.1:1883",
    monitor: Annotated[str, typer.Option("--monitor", help="Health and figures: host:port; empty: none.")] = "",
    hub_address: Annotated[str, typer.Option("--hub", help="host:port of the hub's leaf listener.")] = "",
    password_file: Annotated[str, typer.Option("--password-file", help="Holds the node's password at the hub.")] = "",
    store: Store = STORE,
    to: To = "",
) -> None:
    _checked(node)
    passwords = {user: _password(user) for user in (*EDGE_UNITS, c.EDGE)}
    url = _hub_url(node, hub_address, password_file)
    found = Leaf(node, store, passwords, url, "127.0.0.1:4222", mqtt, monitor, machine=token_hex(4))
    if not is_loopback(mqtt):
        found = replace(found, device_password=_password(c.DEVICES))
    _say(found.text(), to)


def _password(user: str) -> Variable:
    return Variable(f"CANOPY_PASSWORD_{user.upper()}")


def _checked(node: str) -> None:
    try:
        check_token("node", node)
    except BadToken as error:
        raise UsageFailure(f"NODE: {error}; a node is named as in Kubernetes, like edge-7") from None


def _hub_url(node: str, address: str, password_file: str) -> str:
    if bool(address) != bool(password_file):
        raise UsageFailure("--hub and --password-file go together; without them CANOPY_HUB_URL is read at the start")
    if not address:
        return Variable("CANOPY_HUB_URL")
    try:
        password = Path(password_file).read_text().strip()
    except OSError as error:
        raise Failure(f"{node} has no password at the hub: {error}; canopy secrets --nodes {node} makes one") from None
    if not password:
        raise Failure(f"{password_file} is empty: it should hold the password of {node} at the hub")
    return f"nats-leaf://{node}:{password}@{address}"


def _say(text: str, to: str) -> None:
    if not to:
        sys.stdout.write(text + "\n")
        return
    path = Path(to)
    path.touch(mode=0o600)  # it may hold a password
    path.write_text(text + "\n")
