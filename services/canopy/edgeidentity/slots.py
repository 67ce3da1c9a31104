"""Which identities of this node stand in files, and when each is due to be renewed. Pure; `keeping` does it."""

import ipaddress
from dataclasses import dataclass

from canopy.bus.rights import EDGE
from canopy.bus.trust import SYSTEM
from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.identity import ids
from canopy.identity.ids import SpiffeId

LEAF = "leaf"
UNITS = (EDGE, *EDGE_UNITS, EDGEIDENTITY, SYSTEM)
"""EDGE: units that are folded in one process; SYSTEM: this unit towards the leaf itself."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SPREAD = 0.1
"""Of a life, to either side of its half: what began together is not renewed together."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One identity, and its folder below that of this unit. Clients bear no DNS name: the leaf would take it for
    theirs before the SPIFFE ID."""

    folder: str
    id: SpiffeId
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lasts:
    """From when until when a certificate holds, in seconds since 1970."""

    not_before: float
    not_after: float


def slots(td: str, node: str, more_names: tuple[str, ...] = ()) -> tuple[Slot, ...]:
    """The leaf's, and one each of UNITS: split or folded, a process finds its own."""
    names = (*LOOPBACK, node, *more_names)
    ips = tuple(name for name in names if _is_address(name))
    dns = tuple(dict.fromkeys(name for name in names if not _is_address(name)))
    leaf = Slot(LEAF, ids.local(td, node, LEAF), dns, ips)
    return (leaf, *(Slot(f"units/{unit}", ids.local(td, node, unit)) for unit in UNITS))


def renew_at(lasts: Lasts, ttl_seconds: float, share: float) -> float:
    """When it is due: when half of `ttl_seconds` is left, a bit sooner or later by `share` (0 to 1). Not by
    `not_before`: that lies before the time at which it was made."""
    return lasts.not_after - ttl_seconds * (0.5 + SPREAD - 2 * SPREAD * share)


def due(lasts: Lasts | None, ttl_seconds: float, share: float, now: float) -> bool:
    """True for what is not there, past its time, or of a time that has not come: then the clock was set back."""
    return lasts is None or now < lasts.not_before or now >= renew_at(lasts, ttl_seconds, share)


def _is_address(name: str) -> bool:
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False
