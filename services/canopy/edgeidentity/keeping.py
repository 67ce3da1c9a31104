"""Keeps the identities of this node in their files, from its own authority: no cloud is needed, ever.

`prepare` runs it for as long as the process lives. A file is written when it is due (`slots`) and each bundle when the
roots are others; whoever reads them sees the old one or the new one, whole.
"""

import asyncio
import logging
import random
from pathlib import Path

from canopy.edgeidentity.slots import Lasts, Slot, due
from canopy.identity.builtin import Builtin
from canopy.identity.chains import Untrusted, verify_chain
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.private import write_private
from canopy.identity.svid import BadSvid, Bundle, Svid, make_csr, new_key
from canopy.runtime.clock import Clock

log = logging.getLogger("canopy.edgeidentity")
MOST_WAIT_SECONDS = 30.0
LOOKS_IN_A_LIFE = 50
"""A root is trusted for at least a life of what it signs before it signs: looking this often is soon enough."""


class Keeper:
    """The files of `slots` below `root`, for their owner alone."""

    def __init__(
        self,
        root: Path,
        slots: tuple[Slot, ...],
        authority: Builtin,
        ttl_seconds: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._root, self._slots, self._authority = root, slots, authority
        self._ttl_seconds, self._clock = ttl_seconds, clock
        self._shares = {slot.folder: rng.random() for slot in slots}
        self._held: dict[str, Lasts] = {}
        self._bundle: Bundle | None = None

    async def keep(self) -> None:
        """Write what is due. Raises AuthorityAway, OSError."""
        await self._trust(await self._authority.bundle())
        for slot in self._slots:
            if due(self._held.get(slot.folder), self._ttl_seconds, self._shares[slot.folder], self._now()):
                await self._renew(slot)

    async def run(self) -> None:
        """Until cancelled, or until something fails."""
        while True:
            await self._clock.sleep(min(MOST_WAIT_SECONDS, self._ttl_seconds / LOOKS_IN_A_LIFE))
            await self.keep()

    def _now(self) -> float:
        return self._clock.now_ms() / 1000

    async def _trust(self, bundle: Bundle) -> None:
        """First the roots, then what they have signed."""
        if bundle == self._bundle:
            return
        for slot in self._slots:
            folder = self._root / slot.folder
            await asyncio.to_thread(_write_if_new, folder / BUNDLE_FILE, bundle.pem)
            if self._bundle is None and (found := _found(folder / SVID_FILE, slot, bundle, self._now())) is not None:
                self._held[slot.folder] = found
        if self._bundle is not None:
            log.info("the roots of this node are others", extra={"roots": len(bundle.roots_pem)})
        self._bundle = bundle

    async def _renew(self, slot: Slot) -> None:
        key = new_key()
        csr = make_csr(key, slot.id, slot.dns, slot.ips)
        minted = await self._authority.mint(csr, slot.id, ttl_seconds=self._ttl_seconds, dns=slot.dns, ips=slot.ips)
        svid = Svid.of(minted.chain_pem, key)
        await asyncio.to_thread(write_private, self._root / slot.folder / SVID_FILE, svid.pem)
        self._held[slot.folder] = Lasts(svid.not_before, svid.not_after)


def _found(path: Path, slot: Slot, bundle: Bundle, now: float) -> Lasts | None:
    """What is left from before, if it is still good for this."""
    try:
        svid = Svid.read(path.read_bytes())
        verify_chain(svid.chain_pem, bundle, now)
    except (OSError, BadSvid, Untrusted):
        return None
    return Lasts(svid.not_before, svid.not_after) if svid.id == slot.id else None


def _write_if_new(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        write_private(path, content)
