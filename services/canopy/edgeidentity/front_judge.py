"""Who an MQTT client of the front is, and whether it may come in. Pure; `front` asks for each CONNECT."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Protocol

from canopy.contracts.wire import Name
from canopy.edgeidentity import device_tokens
from canopy.edgeidentity.front_connect import REFUSED_USER, Connect
from canopy.edgeidentity.provision_book import Given
from canopy.identity.ids import SpiffeId, local

PLAIN = "devices"
"""Everybody on the plain port is this one, whoever they say they are."""


class Known(Protocol):
    """What is asked of `provision_book.Book`."""

    def of(self, name: Name) -> Given: ...

    def identity(self, name: Name) -> SpiffeId: ...


@dataclass(frozen=True, slots=True)
class Admitted:
    """`connect` is what the gateway is told; `name` None on the plain port; `until` in ms, 0: without end."""

    who: str
    id: SpiffeId
    connect: Connect
    name: Name | None = None
    given: Given | None = None
    until: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    """`who` is a device of this node or "": a stranger's words do not get into the audit. `code` is CONNACK's."""

    who: str
    why: str
    code: int = REFUSED_USER


def by_token(connect: Connect, book: Known, devices: Container[Name], now: int) -> Admitted | Refused:
    """A client on the TLS port: its user name says a device, its password proves it."""
    name = device_tokens.named(connect.user)
    here = name if name is not None and name in devices else None
    given = book.of(here) if here is not None else None
    why = device_tokens.refusal(given.token if given else None, connect.password, now)
    if here is None or given is None or given.token is None:
        return Refused("/".join(here) if here else "", why if here else "no device of this node that may come in")
    who = "/".join(here)
    if why:
        return Refused(who, why)
    handed = connect.without_credentials(f"{who}:")
    return Admitted(who, book.identity(here), handed, here, given, given.token.until)


def plain(connect: Connect, td: str, node: str) -> Admitted:
    """A client on the plain loopback port."""
    return Admitted(PLAIN, plain_id(td, node), connect.without_credentials(f"{PLAIN}:"))


def plain_id(td: str, node: str) -> SpiffeId:
    """What the leaf knows them as."""
    return local(td, node, PLAIN)


def still(admitted: Admitted, book: Known) -> bool:
    """Whether what let it in is still so: it was not revoked, and has not got another password."""
    if admitted.name is None or admitted.given is None:
        return True
    now = book.of(admitted.name)
    return (now.generation, now.token) == (admitted.given.generation, admitted.given.token)
