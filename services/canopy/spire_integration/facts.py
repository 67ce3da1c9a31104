"""From a request of the auth callout to the facts that `core` decides by. `callout` calls it.

The hub has verified the chain and signed the request; here it is only read, within bounds, and nothing is guessed.
"""

from dataclasses import replace

from canopy.identity.certificates import BadSvid, certificates, is_ca, spiffe_id
from canopy.identity.natsjwt import CalloutRequest
from canopy.spire_integration.core import Facts


def facts_of(request: CalloutRequest) -> Facts:
    """Never raises: a certificate that cannot be read names nobody."""
    bare = Facts(None, kind=request.kind, type=request.type, where=request.host, server=request.server_name)
    if not request.chain_pem:
        return replace(bare, problem="no client certificate")
    try:
        leaf, *above = certificates(request.chain_pem)
        return replace(
            bare,
            id=spiffe_id(leaf),
            is_ca=is_ca(leaf),
            serial=f"{leaf.serial_number:x}",
            not_after=leaf.not_valid_after_utc.timestamp(),
            between=max(0, len(above) - 1),  # the last is the root
        )
    except (BadSvid, ValueError, OverflowError) as e:
        return replace(bare, problem=str(e))
