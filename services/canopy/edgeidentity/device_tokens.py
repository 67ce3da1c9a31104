"""Passwords of devices that cannot have a certificate: made once, kept as a hash, judged in the same time always. Pure.

A password is 256 random bits, so that a plain hash is enough at rest.
"""

import hashlib
import hmac
import secrets

import msgspec

from canopy.contracts.subject import BadToken, check_token
from canopy.contracts.wire import Name

PREFIX = "canopy-device."
SECRET_BYTES = 32
LONGEST_CHARACTERS = 200
NOBODY = "0" * 64
"""No secret has this hash: what is compared where there is nobody to compare with."""


class TokenHash(msgspec.Struct, frozen=True, kw_only=True):
    """A password at rest. Times in ms since 1970; `until` 0: as long as the device."""

    hash: str
    made: int
    until: int = 0
    by: str = ""


def made(now: int, until: int, by: str) -> tuple[str, TokenHash]:
    """A new password, told once, and what is kept of it."""
    token = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return token, TokenHash(hash=_hash(token.encode()), made=now, until=until, by=by)


def refusal(kept: TokenHash | None, token: bytes, now: int) -> str:
    """Why a password does not open; "" if it does. Who is told less (a device) hears only that it is refused."""
    same = hmac.compare_digest(_hash(token[:LONGEST_CHARACTERS]), kept.hash if kept else NOBODY)
    if kept is None:
        return "it has no password"
    if not same:
        return "a wrong password"
    return "its password is over" if kept.until and now >= kept.until else ""


def named(user: str) -> Name | None:
    """Which device a user name says: namespace/name, or namespace.name where the namespace holds no dot."""
    namespace, slash, name = user.partition("/")
    if not slash:
        namespace, _, name = user.partition(".")
    try:
        return check_token("namespace", namespace), check_token("name", name)
    except BadToken:
        return None


def _hash(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()
