"""Whether a chain is to be believed, and whom it names, pure. Called where a certificate did not come through TLS, and
once more where it did: what decides about rights looks for itself.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from canopy.identity import certificates, keys
from canopy.identity.certificates import BadSvid
from canopy.identity.ids import SpiffeId

if TYPE_CHECKING:
    from canopy.identity.svid import Bundle

LONGEST_CHAIN = 8


class Untrusted(Exception):
    """A chain that is not to be believed; the text is the reason, in words."""


def verify_chain(chain_pem: bytes, bundle: "Bundle", now: float) -> SpiffeId:
    """Whom a chain (leaf first, PEM) names, by the roots of `bundle`, at `now` (s since 1970). Raises Untrusted."""
    try:
        chain = certificates.certificates(chain_pem)
        id = certificates.spiffe_id(chain[0])
    except BadSvid as e:
        raise Untrusted(str(e)) from None
    _judge_leaf(chain[0], id, bundle, now)
    _judge_chain(chain, id, bundle, now)
    return id


def _judge_leaf(leaf: x509.Certificate, id: SpiffeId, bundle: "Bundle", now: float) -> None:
    if id.trust_domain != bundle.trust_domain:
        raise Untrusted(f"{id} is foreign: the trust domain here is {bundle.trust_domain}")
    if not id.path:
        raise Untrusted(f"{id} names a trust domain and nobody in it")
    if certificates.is_ca(leaf):
        raise Untrusted(f"{id}: the certificate is a CA's, not an SVID")
    if now > leaf.not_valid_after_utc.timestamp():
        raise Untrusted(f"{id} expired at {leaf.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}")
    if now < leaf.not_valid_before_utc.timestamp():
        raise Untrusted(f"{id} is not yet valid: it begins at {leaf.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}")
    if leaf.issuer == leaf.subject and _signed_itself(leaf):
        raise Untrusted(f"{id} is self-signed")


def _judge_chain(chain: tuple[x509.Certificate, ...], id: SpiffeId, bundle: "Bundle", now: float) -> None:
    roots = [root for pem in bundle.roots_pem for root in certificates.certificates(pem)]
    policy = PolicyBuilder().store(Store(roots)).time(datetime.fromtimestamp(now, UTC))
    verifier = policy.max_chain_depth(LONGEST_CHAIN).build_client_verifier()
    try:
        verifier.verify(chain[0], list(chain[1:]))
    except VerificationError as e:
        raise Untrusted(f"{id} is signed by none of the {len(roots)} roots of {bundle.trust_domain}: {e}") from None
    except keys.UNREADABLE as e:
        raise Untrusted(f"{id}: {e}") from None


def _signed_itself(leaf: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(leaf)
    except Exception:  # whatever a stranger's certificate makes it raise, it did not sign itself
        return False
    return True
