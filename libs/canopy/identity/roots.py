"""How the roots of a built-in authority follow each other, pure. `builtin` keeps them in a folder.

A root is made when half of its predecessor's life is over, is in the bundle from then on, and signs when two thirds of
what is left are over too: everybody has heard of it by then. The old one stays in the bundle until it ends.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from canopy.identity import keys
from canopy.identity.certificates import certificates
from canopy.identity.csr import alternative_names
from canopy.identity.ids import SpiffeId

NEXT_AT = 1 / 2
SIGNS_AFTER = 1 / 3
TOO_OLD = 11 / 12
"""Of a root's life: when the next is made, how old that is when it signs, and when it signs however young it is."""
ROOT_BACKDATED_SECONDS = 86_400
"""A machine whose clock stands in the past after a start still takes its root."""
LEAF_BACKDATED_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Root:
    """A self-signed CA of a trust domain, and its key."""

    certificate_pem: bytes
    key_pem: bytes = field(repr=False)

    @property
    def begins(self) -> float:
        return self.certificate.not_valid_before_utc.timestamp()

    @property
    def made(self) -> float:
        return self.begins + ROOT_BACKDATED_SECONDS

    @property
    def ends(self) -> float:
        return self.certificate.not_valid_after_utc.timestamp()

    @property
    def certificate(self) -> x509.Certificate:
        return certificates(self.certificate_pem)[0]

    def life(self, now: float) -> float:
        """How much of it is over: 0 when made, 1 at its end."""
        return (now - self.made) / max(1.0, self.ends - self.made)


def next_is_due(roots: tuple[Root, ...], now: float) -> bool:
    """Whether a new root is to be made: none is young and can sign (one of a clock that stood ahead cannot)."""
    return not any(root.begins <= now and root.life(now) < NEXT_AT for root in roots)


def living(roots: tuple[Root, ...], now: float) -> tuple[Root, ...]:
    """Those still to be believed, oldest first."""
    return tuple(sorted((root for root in roots if root.ends > now), key=lambda root: root.made))


def signer(roots: tuple[Root, ...], now: float) -> Root:
    """The root that signs: the newest that everybody has heard of, else the oldest that is not about to end."""
    able = [root for root in living(roots, now) if root.begins <= now]
    known = [root for root in able if root.life(now) >= SIGNS_AFTER]
    if known and (known[-1].life(now) < TOO_OLD or known[-1] is able[-1]):
        return known[-1]
    return next((root for root in able if root.life(now) < TOO_OLD), able[-1])


def made(trust_domain: str, ttl_seconds: float, now: float) -> Root:
    """A new root of `trust_domain`."""
    key_pem = keys.new_key()
    key = keys.load(key_pem)
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Canopy"),
            x509.NameAttribute(NameOID.SERIAL_NUMBER, f"{serial:x}"),
        ]
    )
    usage = key_usage(signs=True)
    builder = _builder(name, name, serial, now - ROOT_BACKDATED_SECONDS, now + max(1.0, ttl_seconds))
    certificate = (
        builder.public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative_names(SpiffeId(trust_domain, ""), (), ())), False)
        .sign(key, hashes.SHA256())
    )
    return Root(certificate.public_bytes(Encoding.PEM), key_pem)


def minted(
    root: Root,
    id: SpiffeId,
    public_key_pem: bytes,
    until: float,
    now: float,
    dns: tuple[str, ...] = (),
    ips: tuple[str, ...] = (),
) -> bytes:
    """The certificate of an SVID, PEM, signed by `root`; it ends no later than its root."""
    issuer, subject = root.certificate, x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Canopy")])
    key = keys.load_public(public_key_pem)
    start, end = now - LEAF_BACKDATED_SECONDS, min(until, root.ends)
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        _builder(subject, issuer.subject, x509.random_serial_number(), start, end)
        .public_key(key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(key_usage(signs=False), critical=True)
        .add_extension(both, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative_names(id, dns, ips)), critical=False)
        .sign(keys.load(root.key_pem), hashes.SHA256())
        .public_bytes(Encoding.PEM)
    )


def _builder(subject: x509.Name, issuer: x509.Name, serial: int, start: float, end: float) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).serial_number(serial)
    return builder.not_valid_before(_time(start)).not_valid_after(_time(end))


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def key_usage(signs: bool) -> x509.KeyUsage:
    """Of an authority, which signs certificates, or of anybody else, who signs what he says."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
