"""What mints SVIDs, as everybody sees it: the real SPIRE server (`spire`) or one in a folder (`builtin`).

One contract suite (`tests/contract.py`) runs on both. spire_integration, edgeidentity and the join endpoint call it.
"""

from dataclasses import dataclass
from typing import Protocol

from canopy.identity.csr import BadCsr, Csr, read_csr
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Bundle


class AuthorityAway(Exception):
    """It does not answer now: try again later. The text says what to look at."""


class AuthorityRefused(Exception):
    """It answered no, and will again."""


@dataclass(frozen=True, slots=True)
class Minted:
    """A chain, leaf first (PEM), and when its leaf ends, in seconds since 1970."""

    chain_pem: bytes
    not_after: float


@dataclass(frozen=True, slots=True)
class Entry:
    """Who gets `id` from the agent `parent`: the workload that all `selectors` (`type:value`) fit."""

    id: SpiffeId
    parent: SpiffeId
    selectors: tuple[str, ...]
    dns: tuple[str, ...] = ()
    ttl_seconds: int = 0


class Authority(Protocol):
    """Raises AuthorityAway or AuthorityRefused, nothing else; no call lasts longer than a bounded time."""

    @property
    def says(self) -> str:
        """What it is and where, for people."""

    async def mint(self, csr_pem: bytes, id: SpiffeId, *, ttl_seconds: float, dns: tuple[str, ...] = ()) -> Minted:
        """An SVID for exactly `id` and `dns`, which the CSR must ask for too; it may be shorter than `ttl_seconds`."""

    async def bundle(self) -> Bundle:
        """The roots to believe now, those that sign next included."""

    async def entries(self) -> tuple[Entry, ...]:
        """All registered workloads, ordered by id."""

    async def put(self, entry: Entry) -> None:
        """Register, or replace what is registered for the entry's id."""

    async def remove(self, id: SpiffeId) -> None:
        """Forget what is registered for `id`; nothing there is no error."""

    async def close(self) -> None: ...


def asked(csr_pem: bytes, id: SpiffeId, dns: tuple[str, ...], trust_domain: str) -> Csr:
    """The CSR, if it asks for exactly what the caller decided on; else AuthorityRefused."""
    try:
        csr = read_csr(csr_pem)
    except BadCsr as e:
        raise AuthorityRefused(str(e)) from None
    if csr.id != id or sorted(csr.dns) != sorted(dns):
        raise AuthorityRefused(f"the CSR asks for {csr.id} {csr.dns}, and {id} {dns} was decided on")
    if id.trust_domain != trust_domain or not id.path:
        raise AuthorityRefused(f"{id} is not of the trust domain {trust_domain}")
    return csr
