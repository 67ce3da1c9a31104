"""Nonces of the join endpoint: made without remembering them, good once and shortly. `joining` asks.

A nonce is a time, some random bytes and their HMAC under a key that the replicas share, so one made by a replica is
taken by another, and asking for a million costs no memory. Only those that were used with a true signature are
remembered, until they are over; when too many are, the next waits.
"""

import base64
import hmac
import secrets
from collections import OrderedDict

from canopy.spire_integration.tokens import Refused

SECONDS = 60
AHEAD_SECONDS = 10
"""How far the clock of the replica that made it may be ahead of ours."""
MOST_USED = 20_000
_TIME_BYTES, _RANDOM_BYTES, _MAC_BYTES = 8, 16, 32


class TooMany(Exception):
    """More are in use than are remembered: come again later."""


class Nonces:
    """`key` is secret, of all replicas. Times are ms of the wall clock."""

    def __init__(self, key: bytes, most_used: int = MOST_USED) -> None:
        self._key, self._most = key, most_used
        self._used: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used)

    def make(self, now_ms: int) -> str:
        body = now_ms.to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_RANDOM_BYTES)
        return base64.urlsafe_b64encode(body + self._mac(body)).decode()

    def check(self, nonce: str, now_ms: int) -> None:
        """Raise Refused unless it is ours, fresh, and not used yet."""
        raw = _decoded(nonce)
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        ours = len(raw) == _TIME_BYTES + _RANDOM_BYTES + _MAC_BYTES and hmac.compare_digest(mac, self._mac(body))
        if not ours:
            raise Refused(403, "nonce", "this nonce was not made here: ask for one first (POST /v1/nonce)")
        age_ms = now_ms - int.from_bytes(body[:_TIME_BYTES], "big")
        if not -AHEAD_SECONDS * 1000 <= age_ms < SECONDS * 1000:
            raise Refused(403, "nonce", f"this nonce is older than {SECONDS} s: ask for a new one")
        if base64.urlsafe_b64encode(raw).decode() in self._used:
            raise Refused(403, "nonce", "this nonce was used already: ask for a new one")

    def spend(self, nonce: str, now_ms: int) -> None:
        """It is used, by somebody who proved who he is. Raises Refused as `check` does, and TooMany."""
        self.check(nonce, now_ms)
        self._forget(now_ms)
        if len(self._used) >= self._most:
            raise TooMany("too many renewals at once: try again in a minute")
        self._used[base64.urlsafe_b64encode(_decoded(nonce)).decode()] = now_ms

    def _forget(self, now_ms: int) -> None:
        kept_ms = (SECONDS + AHEAD_SECONDS) * 1000
        while self._used and abs(now_ms - next(iter(self._used.values()))) >= kept_ms:
            self._used.popitem(last=False)

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, b"canopy nonce\0" + body, "sha256")


def _decoded(nonce: str) -> bytes:
    try:
        return base64.b64decode(nonce.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        return b""
