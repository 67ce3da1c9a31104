"""The words of NATS' auth callout: the server's request, the user JWT, the answer. spire_integration calls it.

A request is a JWT that a nats-server signed with its own nkey (bounded and checked here); the answer is one that the
callout's account signed, with a user JWT of the same account in it, or the reason why not.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from canopy.identity.nkey import (
    ACCOUNT,
    SERVER,
    USER,
    BadNkey,
    Nkey,
    new_account,
    new_server,
    new_user,
    nkey,
    pair,
    public_bytes,
)

__all__ = [
    "ACCOUNT", "SERVER", "USER", "BadNkey", "BadRequest", "CalloutRequest", "Nkey", "callout_answer", "new_account",
    "new_server", "new_user", "nkey", "read_request", "signed", "user_jwt", "verified",
]  # fmt: skip

MOST_REQUEST_BYTES = 256 * 1024
MOST_CHAIN_BYTES = 64 * 1024
_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


class BadRequest(ValueError):
    """Bytes that no nats-server signed as a request of the auth callout."""


@dataclass(frozen=True, slots=True)
class CalloutRequest:
    """Who wants in: at which server, over what kind of connection, from where, with which chain (leaf first, PEM).

    `chain_pem` is the chain that the server verified, empty without a client certificate; `kind` is Client or Leafnode,
    `type` nats, mqtt or websocket; `user` and `name` are what the peer says of itself: never to be trusted.
    """

    server_id: str
    server_name: str
    user_nkey: str
    kind: str
    type: str
    host: str
    name: str
    user: str
    client_id: int
    chain_pem: bytes
    issued_at: int


def user_jwt(
    issuer_seed: str,
    user_nkey: str,
    account: str,
    *,
    name: str,
    publish: Iterable[str],
    subscribe: Iterable[str],
    expires_at: int,
    now: int = 0,
) -> str:
    """A user of `account` (its configured name) until `expires_at` (s since 1970), who may do what is listed only.

    `name` is what the server calls a client from then on, if there is one; it throws out those whose name it has not
    in its own configuration, each time it reads that.
    """
    rights: dict[str, Any] = {"pub": _allowed(publish), "sub": _allowed(subscribe)}
    nats = {**rights, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2}
    claims = {"name": name, "sub": user_nkey, "aud": account, "exp": int(expires_at), "iat": int(now), "nats": nats}
    return signed(issuer_seed, claims)


def callout_answer(
    issuer_seed: str, server_id: str, user_nkey: str, *, jwt: str = "", error: str = "", now: int = 0
) -> str:
    """The answer to a request: a user JWT, or an error for the server's log (the peer reads only 'Authorization')."""
    body = {"jwt": jwt} if jwt else {"error": error or "refused"}
    nats = {**body, "type": "authorization_response", "version": 2}
    return signed(issuer_seed, {"sub": user_nkey, "aud": server_id, "iat": int(now), "nats": nats})


def signed(seed: str, claims: dict[str, Any]) -> str:
    """A JWT of `claims`, with its issuer and the id that NATS wants: the hash of what it says."""
    signer = pair(seed)
    body = {**claims, "iss": signer.public_key.decode(), "jti": ""}
    body["jti"] = base64.b32encode(hashlib.new("sha512_256", _json(body)).digest()).decode().rstrip("=")
    text = f"{_b64(_json(_HEADER))}.{_b64(_json(body))}"
    return f"{text}.{_b64(signer.sign(text.encode()))}"


def read_request(data: bytes) -> CalloutRequest:
    """The request in `data`, signed by the server that it names. Raises BadRequest."""
    if len(data) > MOST_REQUEST_BYTES:
        raise BadRequest(f"a request of {len(data)} bytes: at most {MOST_REQUEST_BYTES}")
    claims = verified(data, SERVER)
    nats = _part(claims, "nats")
    if nats.get("type") != "authorization_request":
        raise BadRequest("the JWT is no authorization_request")
    server, info = _part(nats, "server_id"), _part(nats, "client_info")
    if _text(server, "id") != _text(claims, "iss"):
        raise BadRequest("the request is not signed by the server that it names")
    user_nkey = _text(nats, "user_nkey")
    _checked(user_nkey)
    return CalloutRequest(
        server_id=_text(server, "id"),
        server_name=_text(server, "name", ""),
        user_nkey=user_nkey,
        kind=_text(info, "kind", ""),
        type=_text(info, "type", ""),
        host=_text(info, "host", ""),
        name=_text(info, "name", ""),
        user=_text(info, "user", ""),
        client_id=_number(info, "id"),
        chain_pem=_chain(nats.get("client_tls")),
        issued_at=_number(claims, "iat"),
    )


def verified(token: bytes, prefix: int) -> dict[str, Any]:
    """The claims of a JWT whose issuer is an nkey of the kind `prefix` and signed it. Raises BadRequest."""
    head, _, rest = token.strip().partition(b".")
    body, _, signature = rest.partition(b".")
    claims = _object(body, "claims")
    if _object(head, "header").get("alg") != _HEADER["alg"]:
        raise BadRequest("the JWT is not signed by ed25519-nkey")
    try:
        VerifyKey(public_bytes(_text(claims, "iss"), prefix)).verify(head + b"." + body, _unb64(signature))
    except (BadSignatureError, ValueError, TypeError) as e:
        raise BadRequest(f"the signature is not that of the issuer: {str(e)[:200]}") from None
    return claims


def _checked(user_nkey: str) -> None:
    try:
        public_bytes(user_nkey, USER)
    except BadNkey as e:
        raise BadRequest(f"user_nkey: {e}") from None


def _chain(tls: Any) -> bytes:
    """The first chain that the server verified, of which every chain has the same leaf."""
    chains = tls.get("verified_chains") if isinstance(tls, dict) else None
    first = chains[0] if isinstance(chains, list) and chains else []
    if not isinstance(first, list) or not all(isinstance(one, str) for one in first):
        raise BadRequest("verified_chains is no list of certificates")
    pem = "".join(one if one.endswith("\n") else one + "\n" for one in first).encode()
    if len(pem) > MOST_CHAIN_BYTES:
        raise BadRequest(f"a chain of {len(pem)} bytes: at most {MOST_CHAIN_BYTES}")
    return pem


def _allowed(subjects: Iterable[str]) -> dict[str, list[str]]:
    """An empty allow list would mean everything to the server: deny all in its place."""
    listed = sorted(subjects)
    return {"allow": listed} if listed else {"deny": [">"]}


def _part(claims: dict[str, Any], key: str) -> dict[str, Any]:
    part = claims.get(key)
    if not isinstance(part, dict):
        raise BadRequest(f"{key} is missing or no object")
    return part


def _text(claims: dict[str, Any], key: str, default: str | None = None) -> str:
    value = claims.get(key, default)
    if not isinstance(value, str) or len(value) > 1024:
        raise BadRequest(f"{key} is missing, no text or too long")
    return value


def _number(claims: dict[str, Any], key: str) -> int:
    value = claims.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(f"{key} is no number")
    return value


def _object(part: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(_unb64(part))
    except (ValueError, RecursionError):
        raise BadRequest(f"no JWT: its {what} cannot be read") from None
    if not isinstance(found, dict):
        raise BadRequest(f"no JWT: its {what} is no object")
    return found


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _unb64(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
