"""What an ask proves, checked by cryptography before anything is believed or stored. `joining` calls it."""

from dataclasses import dataclass

from canopy.identity import ids, manufacturer
from canopy.identity.joining_words import PUBLIC_KEY_CHARACTERS, JoinAsk, from_text, join_bytes
from canopy.identity.svid import BadCsr, Csr, read_csr, verify
from canopy.spire_integration import joining_core as core
from canopy.spire_integration.tokens import Refused


@dataclass(frozen=True, slots=True)
class Rules:
    """What an operator has set: see `joining_settings`."""

    trust_domain: str
    ttl_seconds: int
    grace_seconds: int
    makers_pem: bytes = b""
    maker_names: str = "{cn}"


def signed(public_key: str, signature: str, words: bytes) -> bool:
    """Whether the private half of `public_key` (PEM) signed `words`."""
    return verify(public_key.encode("utf-8", "replace"), from_text(signature), words)


def csr_of(trust_domain: str, node: str, pem: str) -> Csr:
    """The CSR, if it asks for the node's SPIFFE ID and nothing more. Raises Refused."""
    try:
        wanted = ids.node(trust_domain, node)
        csr = read_csr(pem.encode("utf-8", "replace"))
    except (BadCsr, ids.BadId) as e:
        raise Refused(400, "csr", str(e)) from None
    if csr.id != wanted or csr.dns or csr.ips:
        raise Refused(400, "csr", f"the CSR asks for {csr.id} {csr.dns + csr.ips}: it should ask for {wanted} only")
    return csr


def words_of(ask: JoinAsk) -> bytes:
    """What the ask's signatures are over; its own key's is true. Raises Refused."""
    words = join_bytes(ask.node, ask.token_id or ask.nonce, ask.csr, ask.public_key)
    if len(ask.public_key) > PUBLIC_KEY_CHARACTERS or not signed(ask.public_key, ask.signature, words):
        raise Refused(403, "signature", "the ask is not signed by the key that it brings")
    return words


def maker_of(rules: Rules, ask: JoinAsk, words: bytes, now: float) -> str:
    """By which machine's certificate the ask comes. Raises Refused. `now` in seconds since 1970."""
    if not ask.certificate:
        raise Refused(400, "nothing", "say a join token, or bring a manufacturer's certificate")
    if not rules.makers_pem:
        raise Refused(403, "maker", "machines do not join by manufacturers' certificates here: use a join token")
    try:
        machine = manufacturer.verify(ask.certificate.encode("utf-8", "replace"), rules.makers_pem, now)
    except manufacturer.NotTrue as e:
        raise Refused(403, "maker", str(e)) from None
    if not verify(machine.public_key_pem, from_text(ask.certificate_signature), words):
        raise Refused(403, "maker", "the ask is not signed by the key of the manufacturer's certificate")
    if (name := core.named(rules.maker_names, machine.facts)) != ask.node:
        raise Refused(403, "name", f"the manufacturer's certificate is for the node {name}, not for {ask.node}")
    return f"{core.MANUFACTURER}{machine.fingerprint}"
