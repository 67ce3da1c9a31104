"""The real SPIRE server as an Authority, by its own API. spire_integration uses it in production.

Over the server's unix socket (whoever may open it is an administrator), or over mTLS with an SVID that the server
counts among its administrators (`admin_ids`, or an entry with admin): read from files, so it may rotate meanwhile.
"""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from grpc import aio

from canopy.identity.authority import AuthorityAway, AuthorityRefused, Entry, Minted, asked
from canopy.identity.channels import Channels, Socket, Tls
from canopy.identity.ids import BadId, SpiffeId
from canopy.identity.proto import spire_pb2 as api
from canopy.identity.svid import BadSvid, Bundle

CALL_SECONDS = 5.0
PAGE_ENTRIES = 500
MOST_PAGES = 200
_SVID = "/spire.api.server.svid.v1.SVID/"
_BUNDLE = "/spire.api.server.bundle.v1.Bundle/"
_ENTRY = "/spire.api.server.entry.v1.Entry/"
_AGENT = "/spire.api.server.agent.v1.Agent/"
_NO = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
"""What will be answered again; everything else may be over later, a right that is still missing included."""
_OK, _NOT_FOUND, _ALREADY_EXISTS = 0, 5, 6
A = TypeVar("A")


def over_socket(path: Path, trust_domain: str) -> "Spire":
    """The server by its unix socket."""
    return Spire(Socket(path), trust_domain)


def over_tls(address: str, folder: Path, trust_domain: str) -> "Spire":
    """The server by its port, as the administrator whose identity is in `folder`."""
    return Spire(Tls(address, folder, SpiffeId(trust_domain, "/spire/server")), trust_domain)


class Spire:
    """The SPIRE server of `trust_domain`."""

    def __init__(self, reached: Channels, trust_domain: str) -> None:
        self._reached, self.trust_domain = reached, trust_domain

    @property
    def says(self) -> str:
        return f"SPIRE server of {self.trust_domain} at {self._reached.says}"

    async def mint(self, csr_pem: bytes, id: SpiffeId, *, ttl_seconds: float, dns: tuple[str, ...] = ()) -> Minted:
        asked(csr_pem, id, dns, self.trust_domain)
        der = x509.load_pem_x509_csr(csr_pem).public_bytes(Encoding.DER)
        request = api.MintX509SVIDRequest(csr=der, ttl=max(1, int(ttl_seconds)))
        svid = (await self._call(_SVID + "MintX509SVID", request, api.MintX509SVIDResponse)).svid
        return Minted(b"".join(map(_pem, svid.cert_chain)), float(svid.expires_at))

    async def bundle(self) -> Bundle:
        found = await self._call(_BUNDLE + "GetBundle", api.GetBundleRequest(), api.Bundle)
        roots = tuple(_pem(one.asn1) for one in found.x509_authorities if not one.tainted)
        try:
            return Bundle.read(b"".join(roots), self.trust_domain)
        except BadSvid as e:
            raise AuthorityAway(f"{self.says} gave a bundle that cannot be read: {e}") from None

    async def entries(self) -> tuple[Entry, ...]:
        """Those of this trust domain whose names we can read; it may hold others."""
        found = [entry for one in await self._listed() if (entry := _entry(one)) is not None]
        return tuple(sorted(found, key=lambda entry: (str(entry.id), str(entry.parent), entry.selectors)))

    async def put(self, entry: Entry) -> None:
        there = await self._listed(entry.id)
        wanted = _written(entry)
        if not there:
            await self._batch("BatchCreateEntry", api.BatchCreateEntryRequest(entries=[wanted]))
            return
        wanted.id = there[0].id
        mask = api.EntryMask(parent_id=True, selectors=True, x509_svid_ttl=True, dns_names=True)
        await self._batch("BatchUpdateEntry", api.BatchUpdateEntryRequest(entries=[wanted], input_mask=mask))
        await self._delete(there[1:])

    async def remove(self, id: SpiffeId) -> None:
        await self._delete(await self._listed(id))

    async def join_token(self, agent: SpiffeId | None = None, *, ttl_seconds: int = 600) -> str:
        """A token with which one SPIRE agent may join, once; `agent` is a name beside its own for entries below it."""
        request = api.CreateJoinTokenRequest(ttl=ttl_seconds, agent_id=_id(agent) if agent else None)
        return str((await self._call(_AGENT + "CreateJoinToken", request, api.JoinToken)).value)

    async def ban(self, agent: SpiffeId) -> None:
        """An agent that may not come back; what it was issued runs out by itself."""
        await self._call(_AGENT + "BanAgent", api.BanAgentRequest(id=_id(agent)), api.Empty)

    async def close(self) -> None:
        await self._reached.close()

    async def _listed(self, id: SpiffeId | None = None) -> "list[api.Entry]":
        chosen = api.ListEntriesRequest.Filter(by_spiffe_id=_id(id)) if id else None
        found: list[api.Entry] = []
        token = ""
        for _ in range(MOST_PAGES):
            request = api.ListEntriesRequest(filter=chosen, page_size=PAGE_ENTRIES, page_token=token)
            page = await self._call(_ENTRY + "ListEntries", request, api.ListEntriesResponse)
            found.extend(page.entries)
            token = page.next_page_token
            if not token:
                return found
        raise AuthorityRefused(f"{self.says} holds more than {MOST_PAGES * PAGE_ENTRIES} entries")

    async def _batch(self, method: str, request: Any) -> None:
        """One that another replica has just made in the same way is as good."""
        answer = await self._call(_ENTRY + method, request, api.BatchEntryResponse)
        self._judge(answer.results, _ALREADY_EXISTS)

    async def _delete(self, entries: "list[api.Entry]") -> None:
        if entries:
            request = api.BatchDeleteEntryRequest(ids=[entry.id for entry in entries])
            answer = await self._call(_ENTRY + "BatchDeleteEntry", request, api.BatchDeleteEntryResponse)
            self._judge(answer.results, _NOT_FOUND)

    def _judge(self, results: Any, as_good: int) -> None:
        bad = [one.status for one in results if one.status.code not in (_OK, as_good)]
        if bad:
            raise AuthorityRefused(f"{self.says}: {bad[0].message}")

    async def _call(self, method: str, request: Any, answer: type[A]) -> A:
        read: Callable[[bytes], A] = answer.FromString  # type: ignore[attr-defined]
        channel = await self._reached.channel()
        call = channel.unary_unary(
            method, request_serializer=type(request).SerializeToString, response_deserializer=read
        )
        try:
            return await call(request, timeout=CALL_SECONDS)  # type: ignore[no-any-return]
        except aio.AioRpcError as e:
            said = f"{self.says}: {self._reached.fault or e.details()} ({e.code().name})"
            raise (AuthorityRefused if e.code() in _NO else AuthorityAway)(said) from None


def _id(id: SpiffeId) -> "api.SPIFFEID":
    return api.SPIFFEID(trust_domain=id.trust_domain, path=id.path)


def _pem(der: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(der).encode()


def _written(entry: Entry) -> "api.Entry":
    selectors = [one.partition(":") for one in entry.selectors]
    return api.Entry(
        spiffe_id=_id(entry.id),
        parent_id=_id(entry.parent),
        selectors=[api.Selector(type=kind, value=value) for kind, _, value in selectors],
        x509_svid_ttl=entry.ttl_seconds,
        dns_names=entry.dns,
    )


def _entry(one: "api.Entry") -> Entry | None:
    try:
        id, parent = (SpiffeId(part.trust_domain, part.path) for part in (one.spiffe_id, one.parent_id))
    except BadId:
        return None
    selectors = sorted(f"{selector.type}:{selector.value}" for selector in one.selectors)
    return Entry(id, parent, tuple(selectors), tuple(one.dns_names), one.x509_svid_ttl)
