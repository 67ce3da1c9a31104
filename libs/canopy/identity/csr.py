"""Certificate signing requests: made by who wants an SVID, read by who mints. A stranger may have written one."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from canopy.identity import ids, keys
from canopy.identity.ids import BadId, SpiffeId

MOST_CSR_BYTES = 16 * 1024
MOST_NAMES = 32
"""DNS names and addresses beside the SPIFFE ID."""


class BadCsr(ValueError):
    """A request that is no CSR for exactly one SPIFFE ID, or not signed by its own key."""


@dataclass(frozen=True, slots=True)
class Csr:
    id: SpiffeId
    dns: tuple[str, ...]
    ips: tuple[str, ...]
    public_key_pem: bytes


def make_csr(key_pem: bytes, id: SpiffeId, dns: Iterable[str] = (), ips: Iterable[str] = ()) -> bytes:
    """A CSR (PEM) for `id`, signed with the key."""
    names = x509.SubjectAlternativeName(alternative_names(id, dns, ips))
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).add_extension(names, critical=False)
    return builder.sign(keys.load(key_pem), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def alternative_names(id: SpiffeId, dns: Iterable[str], ips: Iterable[str]) -> list[x509.GeneralName]:
    addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    return [x509.UniformResourceIdentifier(str(id)), *(x509.DNSName(name) for name in dns), *addresses]


def read_csr(pem: bytes) -> Csr:
    """What a CSR asks for, its own signature checked. Raises BadCsr."""
    if len(pem) > MOST_CSR_BYTES:
        raise BadCsr(f"a CSR of {len(pem)} bytes: at most {MOST_CSR_BYTES}")
    try:
        request = x509.load_pem_x509_csr(pem)
        key = keys.taken(request.public_key())
        if not request.is_signature_valid:
            raise BadCsr("the CSR is not signed by its own key")
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return _asked(names, keys.public_pem(key))
    except BadCsr:
        raise
    except x509.ExtensionNotFound:
        raise BadCsr("the CSR names no SPIFFE ID: put one into its subjectAltName as a URI") from None
    except keys.UNREADABLE as e:
        raise BadCsr(f"no CSR can be read: {str(e)[:300]}") from None


def _asked(names: x509.SubjectAlternativeName, public_key_pem: bytes) -> Csr:
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or len(names) > MOST_NAMES:
        raise BadCsr(f"the CSR has {len(uris)} URIs and {len(names)} names: one URI, at most {MOST_NAMES} names")
    dns = tuple(names.get_values_for_type(x509.DNSName))
    ips = tuple(str(ip) for ip in names.get_values_for_type(x509.IPAddress))
    if len(dns) + len(ips) + 1 != len(names):
        raise BadCsr("the CSR has names that are no URI, DNS name or address")
    try:
        return Csr(ids.parse(uris[0]), dns, ips, public_key_pem)
    except BadId as e:
        raise BadCsr(str(e)) from None
