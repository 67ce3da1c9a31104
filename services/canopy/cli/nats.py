"""`canopy nats hub`: the configuration of the hub's nats-server for a deployment, without any secret."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from canopy.bus.config import ROUTE, Cluster, Hub, Variable
from canopy.bus.trust import HubTrust
from canopy.cli.failure import EXIT_CODES

STORE, IDENTITY = "/var/lib/canopy", "/run/canopy"
HELP = f"""Configurations of nats-server, made from the catalogue of messages: who may say what.

That of a node's leaf is written by edgeidentity on the node: nats.conf in its folder.

\b
Examples:
  canopy nats hub > hub.conf
  canopy nats hub --servers 3 > hub.conf

{EXIT_CODES}
"""
HUB_HELP = f"""Print the configuration of a hub, or of each server of a clustered one.

Nobody has a password at it: certificates of the fleet say who connects, the auth callout of spire_integration what they
may.

What nats-server reads from its environment: the public nkeys of spire_integration as CANOPY_NKEY_ISSUER, _AUTH, _CLOUD
and _SYS (canopy secrets makes them). The servers of a cluster have one file: CANOPY_SERVER_NAME names each,
CANOPY_ROUTE_0 and so on are the addresses of all (nats-route://route:PASSWORD@HOST:6222), CANOPY_PASSWORD_ROUTE, which
begins with a letter, is what they ask of each other beside certificates.

\b
Examples:
  canopy nats hub > hub.conf
  canopy nats hub --servers 3 --to hub.conf
  canopy nats hub --identity /etc/canopy/hub --listen 10.0.0.5 --store /srv/jetstream > hub.conf

{EXIT_CODES}
"""


def commands(group: typer.Typer) -> typer.Typer:
    group.info.help = HELP
    group.callback()(_group)  # else the only command would be the group itself
    group.command("hub", help=HUB_HELP)(hub)
    return group


def _group() -> None:
    """What may stand before every command of it."""


def hub(
    servers: Annotated[int, typer.Option("--servers", min=1, max=5, help="How many servers the hub has.")] = 1,
    listen: Annotated[str, typer.Option("--listen", help="Address to listen on.")] = "0.0.0.0",  # noqa: S104 - a server of its own container
    store: Annotated[str, typer.Option("--store", help="Folder of what is kept.")] = STORE,
    identity: Annotated[
        str, typer.Option("--identity", help="Folder of the hub's identity: svid.pem and bundle.pem.")
    ] = IDENTITY,
    to: Annotated[str, typer.Option("--to", help="A file to write; else standard output.")] = "",
) -> None:
    routes = tuple(Variable(f"CANOPY_ROUTE_{number}") for number in range(servers))
    password = Variable(f"CANOPY_PASSWORD_{ROUTE.upper()}")
    cluster = Cluster(Variable("CANOPY_SERVER_NAME"), f"{listen}:6222", password, routes) if servers > 1 else None
    listens = (f"{listen}:4222", f"{listen}:7422", f"{listen}:8222")
    text = Hub(store, _trust(Path(identity)), *listens, cluster).text() + "\n"
    if to:
        Path(to).write_text(text)
    else:
        sys.stdout.write(text)


def _trust(folder: Path) -> HubTrust:
    nkeys = (Variable(f"CANOPY_NKEY_{name}") for name in ("ISSUER", "AUTH", "CLOUD", "SYS"))
    return HubTrust(str(folder / "svid.pem"), str(folder / "bundle.pem"), *nkeys)
