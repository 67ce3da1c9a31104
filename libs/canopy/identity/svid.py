"""An X509-SVID with its key, the roots of a trust domain, and the files that both are. Everybody with TLS calls it.

`svid.pem` is ONE file, key and chain, so that no reader ever sees a key without its certificate; `bundle.pem` holds
the roots, several while they rotate, below a line that names the trust domain.
"""

import re
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.serialization import Encoding

from canopy.identity import keys
from canopy.identity.certificates import BadSvid, certificates, chain_id, chain_pem_of, is_ca, spiffe_id
from canopy.identity.chains import Untrusted, verify_chain
from canopy.identity.csr import BadCsr, Csr, make_csr, read_csr
from canopy.identity.ids import SpiffeId
from canopy.identity.keys import BadKey, new_key, public_key, sign, verify

__all__ = [
    "BadCsr", "BadKey", "BadSvid", "Bundle", "Csr", "Svid", "Untrusted", "certificates", "chain_id", "chain_pem_of",
    "is_ca", "make_csr", "new_key", "public_key", "read_csr", "sign", "spiffe_id", "verify", "verify_chain",
]  # fmt: skip

_DOMAIN_LINE = re.compile(rb"# trust domain (\S{1,255})\n")


@dataclass(frozen=True, slots=True)
class Svid:
    """An X509-SVID: chain (leaf first) and key as PEM; times in seconds since 1970."""

    id: SpiffeId
    chain_pem: bytes
    key_pem: bytes = field(repr=False)
    not_before: float
    not_after: float
    serial: int

    @property
    def pem(self) -> bytes:
        """What `svid.pem` holds."""
        return self.key_pem + self.chain_pem

    @classmethod
    def of(cls, chain_pem: bytes, key_pem: bytes) -> "Svid":
        """Chain and key that belong together; raises BadSvid."""
        leaf = certificates(chain_pem)[0]
        try:
            mine = keys.public_pem(keys.load(key_pem).public_key()) == keys.public_pem(keys.taken(leaf.public_key()))
        except keys.UNREADABLE as e:
            raise BadSvid(str(e)) from None
        if not mine:
            raise BadSvid("the key is not that of the certificate")
        times = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
        return cls(spiffe_id(leaf), chain_pem, key_pem, *times, leaf.serial_number)

    @classmethod
    def read(cls, pem: bytes) -> "Svid":
        """What `pem` wrote, or any PEM of a key and a chain; raises BadSvid."""
        found = re.search(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n?", pem, re.DOTALL)
        if found is None:
            raise BadSvid("no private key in the PEM")
        return cls.of(chain_pem_of(certificates(pem)), found[0].rstrip() + b"\n")


@dataclass(frozen=True, slots=True)
class Bundle:
    """The roots of a trust domain, each a PEM certificate."""

    trust_domain: str
    roots_pem: tuple[bytes, ...]

    @property
    def pem(self) -> bytes:
        """What `bundle.pem` holds."""
        return b"# trust domain " + self.trust_domain.encode() + b"\n" + b"".join(self.roots_pem)

    @classmethod
    def read(cls, pem: bytes, trust_domain: str = "") -> "Bundle":
        """What `pem` wrote; in another's PEM the domain is what its roots name, or the given one. Raises BadSvid."""
        roots = certificates(pem)
        line = _DOMAIN_LINE.search(pem)
        named = trust_domain or (line[1].decode() if line else "") or spiffe_id(roots[0]).trust_domain
        if any(not is_ca(root) for root in roots):
            raise BadSvid("the bundle holds a certificate that is no CA")
        return cls(named, tuple(root.public_bytes(Encoding.PEM) for root in roots))
