"""The words of joining, pure: a token's text, what travels to the join endpoint and back, the bytes that are signed.

Both ends use it: spire_integration, which answers, and `join`, which asks from the node.
"""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import TypeVar

import msgspec

from canopy.contracts.subject import BadToken, check_token

PREFIX = "canopy-join."
TOKEN_CHARACTERS = 4096
ASK_BYTES = 16 * 1024
"""Most of a request's body."""
ANSWER_BYTES = 256 * 1024
PUBLIC_KEY_CHARACTERS = 1024
_HEX = re.compile(r"[0-9a-f]{64}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
ROOT, BUNDLE, NONCE, JOIN, RENEW = "/v1/root", "/v1/bundle", "/v1/nonce", "/v1/join", "/v1/renew"

M = TypeVar("M")


class BadJoinToken(ValueError):
    """A text that is no token; says what one looks like."""


class BadWords(ValueError):
    """A body that is not what should come there."""


@dataclass(frozen=True, slots=True)
class Token:
    """What an operator hands to a machine: for which node, the secret, the join root's SHA-256, where to join (`url`),
    and where the hub takes leaves (`hub`)."""

    node: str
    id: str
    secret: str
    root: str
    url: str = ""
    hub: str = ""

    @property
    def text(self) -> str:
        return PREFIX + base64.urlsafe_b64encode(json.dumps(asdict(self)).encode()).decode().rstrip("=")


def parse(text: str) -> Token:
    """The token that `text` is. Raises BadJoinToken, which never says the text itself."""
    if not text.startswith(PREFIX) or len(text) > TOKEN_CHARACTERS:
        raise BadJoinToken(f"that is no join token: one begins with {PREFIX!r}, as `canopy node token NODE` prints it")
    try:
        packed = text[len(PREFIX) :].encode("ascii")
        raw = base64.b64decode(packed + b"=" * (-len(packed) % 4), altchars=b"-_", validate=True)
        token = msgspec.json.decode(raw, type=Token)
        check_token("node", token.node)
    except (binascii.Error, UnicodeError, msgspec.MsgspecError, BadToken, RecursionError):
        raise BadJoinToken("that join token is damaged: copy the whole line that `canopy node token` printed") from None
    if not _HEX.fullmatch(token.root) or not _WORD.fullmatch(token.id) or not _WORD.fullmatch(token.secret):
        raise BadJoinToken("that join token is damaged: copy the whole line that `canopy node token` printed")
    return token


class _Words(msgspec.Struct, frozen=True, kw_only=True):
    """A field is only added, with a default; unknown ones are passed over."""


class BundleAnswer(_Words, frozen=True, kw_only=True):
    """The fleet's roots now, so that a node that was away for long trusts the hub again before all else."""

    trust_domain: str
    roots: list[str]


class NonceAnswer(_Words, frozen=True, kw_only=True):
    nonce: str
    seconds: float


class JoinAsk(_Words, frozen=True, kw_only=True):
    """A machine wants to be `node`: by a token (id and secret), or by its manufacturer's certificate over a nonce.

    `public_key` is the node's own, by which it will renew; it signs (`signature`) `join_bytes`, and so does the key of
    the `certificate` (a PEM chain) where that is what lets it in.
    """

    node: str
    csr: str
    public_key: str
    signature: str
    token_id: str = ""
    secret: str = ""
    nonce: str = ""
    certificate: str = ""
    certificate_signature: str = ""


class RenewAsk(_Words, frozen=True, kw_only=True):
    """`signature` is of the node's key over `renew_bytes`; the CSR is of a new key each time."""

    node: str
    nonce: str
    csr: str
    signature: str


class Joined(_Words, frozen=True, kw_only=True):
    """The certificate chain (PEM), the fleet's roots with it, and how long after its end the node may still renew."""

    chain: str
    trust_domain: str
    roots: list[str]
    not_after: int
    grace_seconds: float = 0.0


class Refusal(_Words, frozen=True, kw_only=True):
    """`code` is HTTP's. `error` is one word for programs: see `Refused` in spire_integration's `joining_core`."""

    code: int
    error: str
    reason: str
    retry_after_seconds: float = 0.0


def join_bytes(node: str, once: str, csr: str, public_key: str) -> bytes:
    """What is signed to join; `once` is the token's id or the nonce."""
    return _signed("canopy join 1", node, once, _hash(csr), _hash(public_key))


def renew_bytes(node: str, nonce: str, csr: str) -> bytes:
    """What is signed to renew."""
    return _signed("canopy renew 1", node, nonce, _hash(csr))


def _signed(*words: str) -> bytes:
    return json.dumps(words).encode()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def to_text(signature: bytes) -> str:
    return base64.b64encode(signature).decode()


def from_text(text: str) -> bytes:
    """A signature as it travelled; what is none becomes one that verifies nothing."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def read(body: bytes, kind: type[M]) -> M:
    """A body as `kind`. Raises BadWords."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise BadWords(f"the body is no {kind.__name__}: {str(e)[:200]}") from None
