"""Join tokens, pure: how one is made, and whether one lets a machine in. `joining` keeps them in the stream TOKENS.

A secret is 256 random bits, so its plain SHA-256 at rest cannot be turned back; who reads the stream can join nobody.
"""

import hashlib
import secrets
from dataclasses import dataclass

import msgspec

from canopy.contracts.identity_wire import JoinToken
from canopy.contracts.times import rfc3339

KEY = " key "
ID_BYTES, SECRET_BYTES = 8, 32
LEAST_SECONDS, MOST_SECONDS = 10, 7 * 24 * 3600


class Refused(Exception):
    """Whoever asks is not let in. `error` is one word for programs, `reason` says it to people."""

    def __init__(self, code: int, error: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.error, self.reason = code, error, reason


@dataclass(frozen=True, slots=True)
class Made:
    """What is kept, and the secret that is told once."""

    record: JoinToken
    secret: str


def make(node: str, ttl_seconds: int, by: str, now_ms: int) -> Made:
    """A token for `node`. Raises ValueError for a lifetime out of bounds."""
    if not LEAST_SECONDS <= ttl_seconds <= MOST_SECONDS:
        raise ValueError(f"a token lasts {LEAST_SECONDS} s to {MOST_SECONDS} s, not {ttl_seconds} s")
    secret = secrets.token_urlsafe(SECRET_BYTES)
    record = JoinToken(
        id=secrets.token_hex(ID_BYTES),
        hash=hashed(secret),
        node=node,
        expires_at=now_ms + ttl_seconds * 1000,
        created_at=now_ms,
        by=by,
    )
    return Made(record, secret)


def hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def use(record: JoinToken | None, secret: str, node: str, where: str, now_ms: int) -> JoinToken:
    """The token as it is once the machine `where` has used it. Raises Refused with words that say why not.

    What a token is for and became is told only to who has its secret; whoever has not learns that it is unknown. The
    machine that used it (the same key, which `machine` puts into `where`) may ask again while it lasts: the answer may
    have been lost on the way.
    """
    if record is None or not secrets.compare_digest(record.hash, hashed(secret)):
        raise Refused(403, "unknown", "no such join token: it was never made here, or is long over; make a new one")
    if record.node != node:
        raise Refused(403, "other-node", f"this join token is for the node {record.node}, not for {node}")
    key = where.partition(KEY)[2]
    if record.used_at and (not key or record.used_from.partition(KEY)[2] != key):
        at = rfc3339(record.used_at)
        raise Refused(403, "used", f"this join token was used already, at {at} from {record.used_from}; make a new one")
    if now_ms >= record.expires_at:
        raise Refused(403, "late", f"this join token ended at {rfc3339(record.expires_at)}; make a new one")
    return record if record.used_at else msgspec.structs.replace(record, used_at=now_ms, used_from=where)


def machine(address: str, public_key: str) -> str:
    """An address with the hash of the key of who asks from there."""
    return f"{address}{KEY}{hashed(public_key)[:32]}"
