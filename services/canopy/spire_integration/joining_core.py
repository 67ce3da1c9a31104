"""Who may join and who may renew, pure. `joining` loads what is known, asks here, and does what is decided.

Whoever has not proven that he holds the node's key learns nothing of that node.
"""

import re
from collections.abc import Mapping

import msgspec

from canopy.contracts.identity_wire import NodeIdentity
from canopy.contracts.subject import BadToken, check_token
from canopy.contracts.times import rfc3339
from canopy.spire_integration.tokens import Refused

MANUFACTURER = "manufacturer: "
PLACES = ("cn", "serial", "dns")
"""What a pattern for names may take from a manufacturer's certificate."""
_PLACE = re.compile(r"\{(\w+)\}")


def joined(known: NodeIdentity | None, node: str, public_key: str, by: str, now_ms: int) -> NodeIdentity:
    """The node as it is from now on; a new machine takes the place of the one before. Raises Refused."""
    if known is not None and known.revoked_at:
        raise _revoked(known)
    if known is not None and known.public_key and by.startswith(MANUFACTURER) and not _same(known, public_key, by):
        reason = (
            f"{node} has joined by another way ({known.by}): an operator must say so, by `canopy node token {node}`"
        )
        raise Refused(403, "taken", reason)
    return NodeIdentity(node=node, public_key=public_key, joined_at=now_ms, by=by)


def _same(known: NodeIdentity, public_key: str, by: str) -> bool:
    return known.by == by or known.public_key == public_key


def renewable(known: NodeIdentity | None, node: str, proven: bool, grace_ms: int, now_ms: int) -> NodeIdentity:
    """The node that may have a new certificate. `proven`: the ask bears its key's signature. Raises Refused."""
    if known is None or not proven:
        reason = f"no node {node} with this key has joined: join with a new token (`canopy node token {node}`)"
        raise Refused(403, "unknown", reason)
    if known.revoked_at:
        raise _revoked(known)
    if now_ms > known.not_after + grace_ms:
        ended = rfc3339(known.not_after)
        reason = (
            f"{node}'s last certificate ended at {ended}, longer ago than the grace of {grace_ms // 1000} s: join anew"
        )
        raise Refused(403, "late", reason)
    return known


def minted(node: NodeIdentity, not_after_ms: int, serial: str) -> NodeIdentity:
    """The node with the certificate that it is about to get."""
    return msgspec.structs.replace(node, not_after=not_after_ms, serial=serial)


def revoked(known: NodeIdentity | None, node: str) -> Refused | None:
    """Why no token is made for a node that is cut off; None: it is not."""
    return _revoked(known) if known is not None and known.revoked_at else None


def _revoked(known: NodeIdentity) -> Refused:
    why = f" ({known.reason})" if known.reason else ""
    reason = f"{known.node} was revoked at {rfc3339(known.revoked_at)}{why}: `canopy node restore {known.node}` first"
    return Refused(403, "revoked", reason)


def named(pattern: str, facts: Mapping[str, str]) -> str:
    """The node that a manufacturer's certificate is for: `pattern` with its facts (cn, serial, dns) at their places.

    Raises Refused for a certificate that lacks one of them, or makes no Kubernetes name.
    """
    missing = [place for place in places(pattern) if not facts.get(place)]
    if missing:
        raise Refused(403, "name", f"the manufacturer's certificate has no {', '.join(missing)}: {pattern} needs it")
    name = _PLACE.sub(lambda m: facts[m[1]], pattern).lower()
    try:
        return check_token("node", name)
    except BadToken:
        raise Refused(
            403, "name", f"the manufacturer's certificate is of {name[:100]!r}, which is no node's name"
        ) from None


def places(pattern: str) -> list[str]:
    return _PLACE.findall(pattern)
