"""The long-lived join root, and endpoint certificates below it. Only the join endpoint has it; it signs nothing else.

Its SHA-256 stands in every token and is kept by every node: a node that was away for years knows the endpoint again,
whatever became of the fleet's own roots meanwhile.
"""

import contextlib
import datetime
import hashlib
import os
import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from canopy.identity import keys
from canopy.identity.roots import key_usage
from canopy.identity.svid import BadSvid, certificates

FILE = "join-root.pem"
ROOT_SECONDS = 30 * 365 * 24 * 3600
ENDPOINT_SECONDS = 30 * 24 * 3600
BACKDATED_SECONDS = 24 * 3600
"""A node's clock may be behind; the endpoint's certificate says nothing about when."""


@dataclass(frozen=True, slots=True)
class JoinRoot:
    """Key and certificate as PEM."""

    pem: bytes = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        return certificates(self.pem)[0]

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.pem)

    def secret(self, purpose: bytes) -> bytes:
        """A secret that all who have this root share, for one purpose."""
        return hashlib.sha256(b"canopy join root\0" + purpose + b"\0" + keys.private_pem(keys.load(self.pem))).digest()


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate, in hex. Raises BadSvid."""
    return certificates(pem)[0].fingerprint(hashes.SHA256()).hex()


def at(folder: Path, td: str, now: float) -> JoinRoot:
    """The root in `folder`, made if there is none; of several replicas that make it at once one wins. Raises OSError,
    BadSvid, BadKey for a file that holds none."""
    file = folder / FILE
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _put_first(file, new(td, now).pem)
    found = JoinRoot(file.read_bytes())
    if not _signs(found):
        raise BadSvid(f"{file} holds no join root with its key: put back the one that the nodes know, or remove it")
    return found


def new(td: str, now: float) -> JoinRoot:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{td} join root"[:64])])
    builder = _builder(name, name, key.public_key(), now, ROOT_SECONDS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(key_usage(signs=True), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return JoinRoot(keys.private_pem(key) + certificate.public_bytes(Encoding.PEM))


def endpoint(root: JoinRoot, td: str, now: float) -> bytes:
    """Key and chain (the root with it) of an endpoint, for 30 days."""
    key, signer = ec.generate_private_key(ec.SECP256R1()), keys.load(root.pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"join.{td}"[:64])])
    builder = _builder(name, root.certificate.subject, key.public_key(), now, ENDPOINT_SECONDS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(key_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(f"join.{td}")]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root.certificate.public_key())  # type: ignore[arg-type]
    certificate = builder.add_extension(issuer, critical=False).sign(signer, hashes.SHA256())
    return keys.private_pem(key) + certificate.public_bytes(Encoding.PEM) + root.certificate_pem


def server_context(pem: bytes) -> ssl.SSLContext:
    """TLS of the endpoint: no client certificate is asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load(context, pem)
    return context


def load(context: ssl.SSLContext, pem: bytes) -> None:
    """Take `pem` for what comes from now on: ssl reads files only."""
    with tempfile.NamedTemporaryFile(prefix="canopy-join-") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


def client_context(root_pem: bytes) -> ssl.SSLContext:
    """TLS of a node to the endpoint: whoever this root has signed for is it, at whatever address it was found."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.load_verify_locations(cadata=root_pem.decode("ascii"))
    return context


def unverified_context() -> ssl.SSLContext:
    """To ask for the root itself, whose hash is known: nothing else may go over such a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, seconds: float
) -> x509.CertificateBuilder:
    start = datetime.datetime.fromtimestamp(now - BACKDATED_SECONDS, datetime.UTC)
    end = datetime.datetime.fromtimestamp(now + seconds, datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _put_first(file: Path, pem: bytes) -> None:
    """Write unless another was first, whole or not at all."""
    mine = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(pem)
        out.flush()
        os.fsync(out.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(mine)
    finally:
        mine.unlink()


def _signs(root: JoinRoot) -> bool:
    mine = keys.public_pem(keys.load(root.pem).public_key())
    return mine == keys.public_pem(keys.taken(root.certificate.public_key()))
