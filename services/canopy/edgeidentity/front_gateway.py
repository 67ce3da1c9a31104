"""The way from the front to the leaf's MQTT gateway: a TLS connection that bears one device's own SVID."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from canopy.edgeidentity.admin_desk import Mint
from canopy.identity.identity import Identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.identity.tls import Rotating, client_context
from canopy.runtime.clock import Clock

MOST_KEPT = 1_000
OPEN_SECONDS = 5.0
LIMIT_BYTES = 64 * 1024
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class _Kept:
    identity: Identity
    context: Rotating


class Gateway:
    """`connect` opens a connection as somebody. SVIDs are kept in memory, for the clients that came last."""

    def __init__(
        self, authority: Mint, address: tuple[str, int], leaf: SpiffeId, ttl_seconds: float, clock: Clock
    ) -> None:
        self._authority, self._address, self._leaf = authority, address, leaf
        self._ttl_seconds, self._clock = ttl_seconds, clock
        self._kept: OrderedDict[SpiffeId, _Kept] = OrderedDict()
        self._one = asyncio.Lock()

    async def connect(self, id: SpiffeId) -> Streams:
        """Raises OSError, TimeoutError, AuthorityAway, AuthorityRefused."""
        context = await self._context(id)
        host, port = self._address
        async with asyncio.timeout(OPEN_SECONDS):
            return await asyncio.open_connection(host, port, ssl=context, server_hostname=host, limit=LIMIT_BYTES)

    async def _context(self, id: SpiffeId) -> Rotating:
        async with self._one:
            bundle = await self._authority.bundle()
            kept = self._kept.pop(id, None)
            if kept is None or self._over(kept.identity) or kept.identity.bundle != bundle:
                key = new_key()
                minted = await self._authority.mint(make_csr(key, id), id, ttl_seconds=self._ttl_seconds)
                identity = Identity(Svid.of(minted.chain_pem, key), bundle)
                kept = _Kept(identity, client_context(identity, frozenset({self._leaf})))
            self._kept[id] = kept
            if len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
            return kept.context

    def _over(self, identity: Identity) -> bool:
        """Past half of its life, or of a time that the clock has not reached."""
        now, svid = self._clock.now_ms() / 1000, identity.svid
        return not svid.not_before <= now < (svid.not_before + svid.not_after) / 2
