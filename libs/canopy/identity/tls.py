"""TLS by SPIFFE ID: both ends show an SVID, and each judges whom the other's names, inside the handshake.

A `Rotating` context is held once by whoever connects or listens (nats-py, asyncio, uvicorn, http.client); each new
connection is made by the newest identity, those that are open stay. A fresh context inside it for each identity: Python
can add a root to a context, but take none away, and tickets of an older one must resume nothing.
"""

import os
import ssl
import tempfile
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from canopy.identity.identity import Identity, read_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import BadSvid, Bundle, certificates, is_ca, spiffe_id

Expected = Callable[[SpiffeId], bool] | Set[SpiffeId]
Shown = Identity | Bundle | Path
"""An identity, the folder that holds one, or only roots: then one shows no certificate."""


class WrongPeer(ssl.SSLCertVerificationError):
    """The other end is somebody, but not who was expected; the text names it."""

    def __init__(self, text: str) -> None:
        super().__init__(ssl.SSL_ERROR_SSL, text)


def client_context(shown: Shown, expected: Expected, alpn: tuple[str, ...] = ()) -> "Rotating":
    """For who connects: shows its SVID (none with a Bundle), believes the roots, and only who is `expected`."""
    context = Rotating(ssl.PROTOCOL_TLS_CLIENT)
    return context._begun(shown, expected, alpn)


def server_context(shown: Shown, expected: Expected | None) -> "Rotating":
    """For who listens. `expected` None: anybody may connect, without a client certificate."""
    context = Rotating(ssl.PROTOCOL_TLS_SERVER)
    return context._begun(shown, expected, ())


class Rotating(ssl.SSLContext):
    """An SSLContext whose connections are made by the newest identity. Made by the functions above."""

    _newest: ssl.SSLContext
    _expected: Expected | None
    _alpn: tuple[str, ...]

    def renew(self, shown: Shown) -> None:
        """From now on connect as this identity; raises ssl.SSLError or BadSvid and changes nothing if it is none."""
        newest = _made(self.protocol, _read(shown), self._expected)
        if self._alpn:
            newest.set_alpn_protocols(self._alpn)
        self._newest = newest

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        return self._newest.wrap_bio(*args, **more)

    def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
        return self._newest.wrap_socket(*args, **more)

    def _begun(self, shown: Shown, expected: Expected | None, alpn: tuple[str, ...]) -> "Rotating":
        self._expected, self._alpn = expected, alpn
        self.check_hostname = False  # the SPIFFE ID is what is checked
        self.verify_mode = _mode(expected)
        self.renew(shown)
        return self


def _mode(expected: Expected | None) -> ssl.VerifyMode:
    return ssl.CERT_NONE if expected is None else ssl.CERT_REQUIRED


def _read(shown: Shown) -> Identity | Bundle:
    return read_identity(shown) if isinstance(shown, Path) else shown


def _made(protocol: int, shown: Identity | Bundle, expected: Expected | None) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    context.check_hostname = False
    context.verify_mode = _mode(expected)
    bundle = shown if isinstance(shown, Bundle) else shown.bundle
    context.load_verify_locations(cadata=b"".join(bundle.roots_pem).decode("ascii"))
    if isinstance(shown, Identity):
        _load(context, shown.svid.pem)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    if expected is not None:
        judge = _judge(bundle.trust_domain, expected)
        context.sslobject_class = type("JudgingObject", (_JudgingObject,), {"judge": staticmethod(judge)})
        context.sslsocket_class = type("JudgingSocket", (_JudgingSocket,), {"judge": staticmethod(judge)})
    return context


def _load(context: ssl.SSLContext, pem: bytes) -> None:
    """Python reads a key from a file only: one that has no name, or is gone at once."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("svid", os.MFD_CLOEXEC), "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        return
    with tempfile.NamedTemporaryFile() as named:
        named.write(pem)
        named.flush()
        context.load_cert_chain(named.name)


def _judge(trust_domain: str, expected: Expected) -> Callable[[bytes | None], None]:
    """What raises WrongPeer for a peer's certificate (DER) that is not of who is expected."""

    def judge(der: bytes | None) -> None:
        try:
            leaf = certificates(ssl.DER_cert_to_PEM_cert(der or b"").encode())[0]
            id = spiffe_id(leaf)
        except BadSvid as e:
            raise WrongPeer(f"the peer shows no SVID: {e}") from None
        known = id in expected if isinstance(expected, Set) else expected(id)
        if id.trust_domain != trust_domain or not id.path or is_ca(leaf) or not known:
            raise WrongPeer(f"the peer is {id}, expected was another{_listed(expected)}")

    return judge


def _listed(expected: Expected) -> str:
    return ": " + ", ".join(sorted(map(str, expected))[:5]) if isinstance(expected, Set) else ""


class _JudgingObject(ssl.SSLObject):
    judge: Callable[[bytes | None], None]

    def do_handshake(self) -> None:
        super().do_handshake()
        type(self).judge(self.getpeercert(True))


class _JudgingSocket(ssl.SSLSocket):
    judge: Callable[[bytes | None], None]

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        type(self).judge(self.getpeercert(True))
