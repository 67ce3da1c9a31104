"""What TLS itself refused, from a nats-server's log: no callout and no event tells of those. Pure; spire_integration
reads the hub's file, edgeidentity the leaf's.

nats-server writes (2.15): `... [ERR] 10.0.0.9:43924 - lid:18 - TLS leafnode handshake error: tls: failed to verify
certificate: x509: certificate has expired ...`, and at the end of some, in brackets, the certificate's SHA-256.
"""

import re
from dataclasses import dataclass

LONGEST_LINE = 4096
LONGEST_REASON = 300
_LINE = re.compile(
    r"\[ERR\] (?P<host>\[?[0-9a-fA-F.:]+\]?):(?P<port>\d{1,5}) - (?P<kind>[a-z]+):\d+ - "
    r"TLS (?:leafnode |route |gateway )?handshake error: (?P<why>.*)"
)
_FINGERPRINT = re.compile(r"\((?:[^();]*) SHA-256: (?P<sha>[0-9a-f]{64})")
_KINDS = {"cid": "a client", "lid": "a leaf", "rid": "a server", "gid": "a gateway", "mid": "an MQTT client"}
_REASONS = (
    ("didn't provide a certificate", "no client certificate"),
    ("has expired or is not yet valid", "its certificate has ended, or does not hold yet"),
    ("signed by unknown authority", "its certificate is of another authority, or signed by itself"),
    ("incompatible key usage", "its certificate is not for this use"),
    ("first record does not look like a TLS handshake", "it speaks no TLS"),
    ("protocol version", "it speaks only an older TLS"),
)
NOISE = ("EOF", "connection reset by peer", "i/o timeout", "broken pipe")
"""Who only hangs up was refused nothing: a port that is looked at, a link that breaks."""


@dataclass(frozen=True, slots=True)
class TlsRefusal:
    """`certificate` is the SHA-256 of the one that was shown, where the server says it."""

    where: str
    reason: str
    certificate: str = ""


def refusal(line: str) -> TlsRefusal | None:
    """What this line of a server's log says of a refused handshake; None: nothing."""
    found = _LINE.search(line[:LONGEST_LINE])
    if found is None:
        return None
    why = found["why"].strip()
    if any(why.endswith(noise) for noise in NOISE):
        return None
    sha = _FINGERPRINT.search(why)
    reason = f"{_KINDS.get(found['kind'], found['kind'])}: {_reason(why)}"
    return TlsRefusal(found["host"].strip("[]"), reason, sha["sha"] if sha else "")


def _reason(why: str) -> str:
    for said, ours in _REASONS:
        if said in why:
            return ours
    return why.split(" ( ")[0][:LONGEST_REASON]
