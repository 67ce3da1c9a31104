"""A certificate that a machine's maker put into it: whether it is true, and what it names. The join endpoint asks.

Such certificates are of other people's making: no SPIFFE ID, often no name at all but a serial number, and no end.
"""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from canopy.identity import keys
from canopy.identity.svid import BadSvid, certificates

MOST_CHAIN = 4


class NotTrue(ValueError):
    """A certificate that no maker whom the operator named has signed; says why."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a maker's certificate says; `facts` are cn, serial (of the subject) and dns, those that it has."""

    facts: dict[str, str]
    public_key_pem: bytes
    fingerprint: str


def verify(chain_pem: bytes, roots_pem: bytes, now: float) -> Machine:
    """The machine of a chain (leaf first) under one of the makers' roots. Raises NotTrue."""
    try:
        chain = certificates(chain_pem)
        if len(chain) > MOST_CHAIN:
            raise NotTrue(f"a chain of {len(chain)} certificates: at most {MOST_CHAIN}")
        _verified(chain, certificates(roots_pem), now)
        public = keys.public_pem(keys.taken(chain[0].public_key()))
        return Machine(_facts(chain[0]), public, chain[0].fingerprint(hashes.SHA256()).hex())
    except NotTrue:
        raise
    except VerificationError as e:
        raise NotTrue(f"the manufacturer's certificate is not true: {str(e)[:300]}") from None
    except (BadSvid, *keys.UNREADABLE) as e:
        raise NotTrue(f"the manufacturer's certificate cannot be read: {str(e)[:300]}") from None


def _verified(chain: tuple[x509.Certificate, ...], roots: tuple[x509.Certificate, ...], now: float) -> None:
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    leaves = ExtensionPolicy.permit_all().may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, _no_ca)
    builder = PolicyBuilder().store(Store(list(roots))).time(at).max_chain_depth(MOST_CHAIN)
    builder = builder.extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=leaves)
    builder.build_client_verifier().verify(chain[0], list(chain[1:]))


def _no_ca(_: Policy, __: x509.Certificate, constraints: x509.BasicConstraints | None) -> None:
    if constraints is not None and constraints.ca:
        raise ValueError("it is a CA")


def _facts(leaf: x509.Certificate) -> dict[str, str]:
    found = {}
    for fact, oid in (("cn", NameOID.COMMON_NAME), ("serial", NameOID.SERIAL_NUMBER)):
        values = [str(one.value) for one in leaf.subject.get_attributes_for_oid(oid)]
        if len(values) == 1:
            found[fact] = values[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        dns = names.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        dns = []
    return found | ({"dns": dns[0]} if len(dns) == 1 else {})
