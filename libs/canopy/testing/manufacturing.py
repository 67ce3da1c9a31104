"""A small PKI of a manufacturer: roots, factories below them, and the certificates that their machines bear."""

import datetime
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from canopy.identity.roots import key_usage

START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
NO_END = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass
class Maker:
    """Who signs, as `name`; below `parent` where there is one."""

    name: str = "acme"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    parent: "Maker | None" = None
    end: datetime.datetime = NO_END

    def certificate(self) -> x509.Certificate:
        issuer = self.parent or self
        return issuer.signed(self.subject, self.key.public_key(), self.end, ca=True)

    @property
    def subject(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])

    def signed(
        self, subject: x509.Name, key: Any, end: Any = NO_END, ca: bool = False, dns: str = ""
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(START).not_valid_after(end)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if ca:
            builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
            builder = builder.add_extension(key_usage(signs=True), critical=True)
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        if dns:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(dns)]), critical=False)
        certificate: x509.Certificate = builder.sign(self.key, hashes.SHA256())
        return certificate


def named(*pairs: Any) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs])


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(Encoding.PEM) for c in certificates)


def serial(number: str) -> x509.Name:
    """A subject that holds a serial number and no name."""
    return named((NameOID.SERIAL_NUMBER, number))
