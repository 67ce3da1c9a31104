"""NATS' ed25519 keys: a seed that signs, and the public half that names it. `natsjwt` and the hub's owner call it."""

import base64
import binascii
from dataclasses import dataclass

import nkeys
from nacl.signing import SigningKey

ACCOUNT, USER, SERVER = nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER, nkeys.PREFIX_BYTE_SERVER
PUBLIC_BYTES = 35
"""A kind, 32 bytes of key, a checksum of 2."""


class BadNkey(ValueError):
    """A text that is no seed or no public nkey of the kind that is wanted."""


@dataclass(frozen=True, slots=True)
class Nkey:
    """A seed (secret) and what it proves."""

    seed: str
    public: str

    def __repr__(self) -> str:
        return f"Nkey({self.public})"


def new_account() -> Nkey:
    return _new(ACCOUNT)


def new_user() -> Nkey:
    return _new(USER)


def new_server() -> Nkey:
    """As a nats-server makes itself one: tests sign requests with it."""
    return _new(SERVER)


def nkey(seed: str) -> Nkey:
    """The pair of a seed as a file holds it; raises BadNkey."""
    return Nkey(seed.strip(), pair(seed.strip()).public_key.decode())


def public_bytes(public: str, prefix: int) -> bytes:
    """The 32 bytes of a public nkey of the kind `prefix`, its checksum checked. Raises BadNkey."""
    try:
        raw = base64.b32decode(public.encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        raise BadNkey("no nkey can be read") from None
    body, checksum = raw[:-2], raw[-2:]
    if len(raw) != PUBLIC_BYTES or body[0] != prefix or binascii.crc_hqx(body, 0) != int.from_bytes(checksum, "little"):
        raise BadNkey("an nkey of another kind, or with a wrong checksum")
    return body[1:]


def _new(prefix: int) -> Nkey:
    return nkey(nkeys.encode_seed(bytes(SigningKey.generate()), prefix).decode())


def pair(seed: str) -> nkeys.KeyPair:
    try:
        return nkeys.from_seed(seed.encode())
    except nkeys.NkeysError:
        raise BadNkey("no nkey seed can be read: it begins with S") from None
