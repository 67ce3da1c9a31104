"""Who is let in, pure: the facts of a request -> Admitted or Refused. `callout` asks it for every connection.

Whatever a peer says of itself (name, user) decides nothing: only the certificate that the hub has verified does.
"""

from collections.abc import Container
from dataclasses import dataclass

from canopy.contracts.roles import CLOUD_UNITS
from canopy.identity import ids
from canopy.identity.ids import FOLDED, FleetMember, SpiffeId

CLIENT, LEAF, NATS = "Client", "Leafnode", "nats"
CLOUD_MEMBERS = (*CLOUD_UNITS, FOLDED)
"""Who comes with a certificate of a cloud unit; spire_integration has keys of its own, since nobody lets it in."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of who wants in. `id` None: no certificate, or none that names anybody; `problem` says why."""

    id: SpiffeId | None
    problem: str = ""
    is_ca: bool = False
    serial: str = ""
    not_after: float = 0.0
    between: int = 0
    """How many authorities stand between its certificate and the root."""
    kind: str = CLIENT
    type: str = NATS
    where: str = ""
    server: str = ""

    @property
    def who(self) -> str:
        return str(self.id) if self.id else ""


@dataclass(frozen=True, slots=True)
class Believed:
    """How far down authorities are believed: so many `between` a root and anybody's certificate; one that is further
    down (a nested SPIRE server's, which could sign any name of the fleet) for the `nested` nodes alone."""

    between: int = 0
    nested: frozenset[str] = frozenset()


OWN = Believed()
"""The fleet's own root signs everybody's certificate."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """It may come in as `member` until `expires_at` (seconds since 1970), which is when its certificate ends."""

    member: FleetMember
    name: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not. `why` is one word for the metric, `reason` says it to people."""

    why: str
    reason: str


def decide(
    facts: Facts, trust_domain: str, revoked: Container[str], now: float, believed: Believed = OWN
) -> Admitted | Refused:
    """Whether who comes with these facts is let in at `now` (seconds since 1970); `revoked` are names of nodes."""
    if facts.id is None:
        return Refused("certificate", facts.problem or "no client certificate")
    if facts.is_ca:
        return Refused("certificate", f"{facts.id} comes with the certificate of an authority, not with its own")
    if facts.not_after <= now:
        return Refused("expired", f"the certificate of {facts.id} has ended; its source must renew it")
    member = ids.member(trust_domain, facts.id)
    if member is None:
        return Refused("stranger", f"{facts.id} is nobody in the trust domain {trust_domain}")
    if facts.between > believed.between and (member.kind != "node" or member.name not in believed.nested):
        return Refused("nested", f"{facts.id} comes from an authority below the fleet's: no node of `nested_nodes`")
    refused = _node(member, facts, revoked) if member.kind == "node" else _cloud(member, facts)
    return refused or Admitted(member, str(facts.id), int(facts.not_after))


def _node(node: FleetMember, facts: Facts, revoked: Container[str]) -> Refused | None:
    if node.name in revoked:
        return Refused(
            "revoked", f"the node {node.name} is revoked: `canopy node restore {node.name}` lets it in again"
        )
    if facts.kind != LEAF:
        return Refused("kind", f"the node {node.name} comes as {_kind(facts)}: a node's certificate opens a leaf only")
    return None


def _cloud(member: FleetMember, facts: Facts) -> Refused | None:
    if member.kind != "cloud" or member.name not in CLOUD_MEMBERS:
        return Refused("stranger", f"{facts.id} has no place among the hub's clients")
    if (facts.kind, facts.type) != (CLIENT, NATS):
        return Refused(
            "kind", f"{facts.id} comes as {_kind(facts)}: a cloud unit's certificate opens a NATS client only"
        )
    return None


def _kind(facts: Facts) -> str:
    shown = f"{facts.kind} ({facts.type})" if facts.type else facts.kind
    return shown[:60] or "something unnamed"
