"""Certificates as PEM, and the SPIFFE ID in one: reading only. `svid` and `chains` are made of it."""

from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from canopy.identity import ids, keys
from canopy.identity.ids import BadId, SpiffeId

MOST_PEM_BYTES = 256 * 1024


class BadSvid(ValueError):
    """A text that is no SVID, or no bundle."""


@lru_cache(maxsize=64)
def certificates(pem: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates in `pem`, at least one; raises BadSvid."""
    if len(pem) > MOST_PEM_BYTES:
        raise BadSvid(f"a PEM of {len(pem)} bytes: at most {MOST_PEM_BYTES}")
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except keys.UNREADABLE as e:
        raise BadSvid(f"no certificate can be read: {str(e)[:300]}") from None


def chain_pem_of(chain: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in chain)


def chain_id(chain_pem: bytes) -> SpiffeId:
    """Whom the leaf of a chain names; says nothing about trust. Raises BadSvid."""
    return spiffe_id(certificates(chain_pem)[0])


def spiffe_id(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE ID in a certificate; raises BadSvid."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, *keys.UNREADABLE) as e:
        raise BadSvid(f"no SPIFFE ID in the certificate: {str(e)[:300]}") from None
    if len(uris) != 1:
        raise BadSvid(f"the certificate holds {len(uris)} URIs: an SVID holds one, its SPIFFE ID")
    try:
        return ids.parse(uris[0])
    except BadId as e:
        raise BadSvid(str(e)) from None


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether it may sign others: no SVID may."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, *keys.UNREADABLE):
        return False
