"""An identity from the SPIFFE Workload API: what a SPIRE agent on this machine gives to who asks on its socket.

`helper` and, where a site runs an agent, edgeidentity's helper process call it; nothing that must be small does.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio

from canopy.identity import keys
from canopy.identity.channels import Socket
from canopy.identity.identity import Identity
from canopy.identity.ids import SpiffeId
from canopy.identity.proto import workload_pb2 as api
from canopy.identity.sources import RETRY_SECONDS, Told
from canopy.identity.svid import BadSvid, Bundle, Svid, certificates, chain_pem_of
from canopy.runtime.clock import Clock, SystemClock

ANSWER_SECONDS = 10.0
FETCH = "/SpiffeWorkloadAPI/FetchX509SVID"
HEADER = ("workload.spiffe.io", "true")
"""Every call bears it, by the standard: a browser that is led astray cannot."""


class WorkloadApiSource:
    """The SVID that the agent at `socket` gives to this process: the one for `id`, or its first."""

    def __init__(self, socket: Path, *, id: SpiffeId | None = None, clock: Clock | None = None) -> None:
        self._reached, self._id = Socket(socket), id
        self._clock = clock or SystemClock()
        self._told = Told(self._clock)
        self._now: Identity | None = None
        self._given: Identity | None = None

    async def first(self) -> Identity:
        if self._now is None:
            async with aclosing(self.changes()) as changes:
                async for one in changes:
                    return one
        assert self._now is not None
        self._given = self._now
        return self._now

    async def changes(self) -> AsyncGenerator[Identity, None]:
        while True:
            try:
                async with aclosing(self._answers()) as answers:
                    async for answer in answers:
                        self._now = _identity(answer, self._id)
                        self._told.over()
                        if self._now != self._given:
                            self._given = self._now
                            yield self._now
            except aio.AioRpcError as e:
                self._told.waiting(f"{self._reached.says}: {e.details()} ({e.code().name})")
            except BadSvid as e:
                self._told.waiting(f"{self._reached.says}: {e}")
            except TimeoutError:
                self._told.waiting(f"{self._reached.says} does not answer within {ANSWER_SECONDS:g} s")
            await self._clock.sleep(RETRY_SECONDS)

    async def close(self) -> None:
        await self._reached.close()

    async def _answers(self) -> AsyncGenerator[Any, None]:
        """One call, as long as it lasts: an answer soon, and another whenever something has changed."""
        channel = await self._reached.channel()
        write, read = api.X509SVIDRequest.SerializeToString, api.X509SVIDResponse.FromString
        call = channel.unary_stream(FETCH, request_serializer=write, response_deserializer=read)(
            api.X509SVIDRequest(), metadata=[HEADER]
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await call.read()
            while answer is not aio.EOF:
                yield answer
                answer = await call.read()
        finally:
            call.cancel()


def _identity(answer: Any, id: SpiffeId | None) -> Identity:
    """The SVID for `id`, or the first, which is the default one. Raises BadSvid."""
    offered = [one for one in answer.svids if id is None or one.spiffe_id == str(id)]
    if not offered:
        raise BadSvid(f"no SVID for {id} among {[one.spiffe_id for one in answer.svids]}")
    one = offered[0]
    try:
        key = keys.taken_private(serialization.load_der_private_key(one.x509_svid_key, None))
        chain = tuple(map(_certificate, _parts(one.x509_svid)))
        roots = b"".join(ssl.DER_cert_to_PEM_cert(part).encode() for part in _parts(one.bundle))
    except keys.UNREADABLE as e:
        raise BadSvid(f"the agent's answer cannot be read: {e}") from None
    svid = Svid.of(chain_pem_of(chain), keys.private_pem(key))
    return Identity(svid, Bundle.read(roots, svid.id.trust_domain))


def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _parts(ders: bytes) -> list[bytes]:
    """DER values one after the other, each with its length in its head: as SPIFFE packs certificates."""
    found, at = [], 0
    while at < len(ders):
        end = at + _length(ders[at : at + 6])
        if end > len(ders):
            raise BadSvid("certificates that are cut off")
        found.append(ders[at:end])
        at = end
    return found


def _length(head: bytes) -> int:
    """Of a DER value, head included."""
    if len(head) < 2:
        raise BadSvid("certificates that are cut off")
    size, more = head[1], 0
    if size & 0x80:
        more = size & 0x7F
        if not 1 <= more <= 4 or len(head) < 2 + more:
            raise BadSvid("no DER certificates")
        size = int.from_bytes(head[2 : 2 + more], "big")
    return 2 + more + size


def packed(pem: bytes) -> bytes:
    """The other way round: the certificates of a PEM as the Workload API sends them."""
    return b"".join(one.public_bytes(Encoding.DER) for one in certificates(pem))
