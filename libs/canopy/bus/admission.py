"""Which account of the hub a member of the fleet comes into, and what it may there. Pure; the auth callout asks it."""

from dataclasses import dataclass

from canopy.bus.config import node_account
from canopy.bus.rights import CLOUD, Permissions, cloud_rights, node_rights
from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity.ids import FleetMember

CLOUD_ACCOUNT = "CLOUD"


@dataclass(frozen=True, slots=True)
class Admitted:
    """An account of the hub, and the rights there."""

    account: str
    rights: Permissions


def rights(member: FleetMember) -> Admitted | None:
    """None: this member has no business at the hub as a client (the hub itself; spire_integration has keys of its own;
    units of the edge have no certificate of the fleet)."""
    if member.kind == "node":
        return Admitted(node_account(member.name), node_rights(member.name))
    if member.kind == "cloud" and member.name in (*CLOUD_UNITS, CLOUD):
        return Admitted(CLOUD_ACCOUNT, cloud_rights(member.name))
    return None
