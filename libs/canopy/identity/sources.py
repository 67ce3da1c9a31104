"""Where an identity comes from, and its successors for ever: files, or an authority. (`workload` has the Workload API.)

Every process with TLS has one Source. A source that has nothing yet is waited for, with a log line that says what for.
"""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Protocol

from canopy.identity.authority import Authority, AuthorityAway, AuthorityRefused
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, Identity, NoIdentity, read_identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Svid, Untrusted, make_csr, new_key, verify_chain
from canopy.runtime.clock import Clock, SystemClock

__all__ = [
    "AuthoritySource", "FileSource", "Identity", "NoIdentity", "Source", "Told", "read_identity", "write_identity",
]  # fmt: skip

LOOK_SECONDS = 1.0
FIRST_LOOK_SECONDS = 0.1
"""While there is none yet: whoever waits for it can do nothing else."""
TELL_SECONDS = 60.0
BUNDLE_SECONDS = 5.0
"""How often an authority is asked for its roots: as SPIRE's agent does."""
RETRY_SECONDS = 2.0
HALF_LIFE_SPREAD = 0.1

log = logging.getLogger("canopy.identity")


class Source(Protocol):
    async def first(self) -> Identity:
        """The identity as it is now; waits, for ever if it must, until there is one."""

    def changes(self) -> AsyncIterator[Identity]:
        """Each identity after the one that this source gave last, for ever."""


class Told:
    """Says what is waited for once, and then once a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._next: float | None = None

    def waiting(self, what: str) -> None:
        now = self._clock.monotonic()
        if self._next is None or now >= self._next:
            log.warning("waiting for an identity: %s", what)
            self._next = now + TELL_SECONDS

    def over(self) -> None:
        """It came."""
        self._next = None


class FileSource:
    """The identity in a folder, which another process writes; it is looked at once a second."""

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._clock = clock or SystemClock()
        self._told = Told(self._clock)
        self._seen: tuple[object, ...] = ()

    async def first(self) -> Identity:
        while True:
            looked = self._looks()
            try:
                found = read_identity(self._folder)
            except NoIdentity as e:
                self._told.waiting(str(e))
                await self._clock.sleep(FIRST_LOOK_SECONDS)
            else:
                self._told.over()
                self._seen = looked
                return found

    async def changes(self) -> AsyncIterator[Identity]:
        while True:
            if self._looks() != self._seen:
                yield await self.first()
            await self._clock.sleep(LOOK_SECONDS)

    def _looks(self) -> tuple[object, ...]:
        return tuple(_look(self._folder / name) for name in (SVID_FILE, BUNDLE_FILE))


def _look(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


class AuthoritySource:
    """SVIDs minted by an authority for `id`, each with a new key, renewed when half of its life is over.

    While the authority is away the old one stays; a root that the authority no longer has ends it at once.
    """

    def __init__(
        self,
        authority: Authority,
        id: SpiffeId,
        *,
        ttl_seconds: float,
        dns: tuple[str, ...] = (),
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - spreads renewals
        self._authority, self._id, self._ttl_seconds, self._dns = authority, id, ttl_seconds, dns
        self._clock = clock or SystemClock()
        self._told = Told(self._clock)
        self._now: Identity | None = None
        self._due = 0.0

    async def first(self) -> Identity:
        while self._now is None:
            await self._try(self._renew)
        return self._now

    async def changes(self) -> AsyncIterator[Identity]:
        given = self._now
        while True:
            if self._now is not None:
                await self._clock.sleep(max(0.0, min(BUNDLE_SECONDS, self._due - self._clock.monotonic())))
            await self._try(self._renew if self._clock.monotonic() >= self._due else self._look)
            if self._now is not None and self._now != given:
                given = self._now
                yield given

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except (AuthorityAway, AuthorityRefused) as e:
            self._told.waiting(f"{self._id} of {self._authority.says}: {e}")
            await self._clock.sleep(RETRY_SECONDS)
        else:
            self._told.over()

    async def _look(self) -> None:
        """Take the authority's roots; mint anew when they no longer believe the SVID."""
        bundle = await self._authority.bundle()
        assert self._now is not None
        try:
            verify_chain(self._now.svid.chain_pem, bundle, self._seconds())
        except Untrusted as e:
            log.warning("%s is minted anew: %s", self._id, e)
            await self._renew()
        else:
            self._now = Identity(self._now.svid, bundle)

    async def _renew(self) -> None:
        key = new_key()
        csr = make_csr(key, self._id, self._dns)
        minted = await self._authority.mint(csr, self._id, ttl_seconds=self._ttl_seconds, dns=self._dns)
        bundle = await self._authority.bundle()
        self._now = Identity(Svid.of(minted.chain_pem, key), bundle)
        half = (minted.not_after - self._seconds()) / 2
        self._due = self._clock.monotonic() + half * self._rng.uniform(1 - HALF_LIFE_SPREAD, 1 + HALF_LIFE_SPREAD)

    def _seconds(self) -> float:
        return self._clock.now_ms() / 1000
