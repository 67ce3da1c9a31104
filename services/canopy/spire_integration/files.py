"""Identity folders of the hub and of the cloud's units, written and renewed here where no agent of SPIRE does it: with
the built-in authority (demo, tests, one machine). `prepare` keeps them, from before anything can connect.

Several replicas may write to one folder: under a lock, and only what is due, so that a replica more changes nothing.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from canopy.contracts.roles import CLOUD_UNITS, SPIRE_INTEGRATION
from canopy.identity import ids
from canopy.identity.authority import Authority
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, Identity, NoIdentity, read_identity, write_identity
from canopy.identity.ids import FOLDED, SpiffeId
from canopy.identity.private import private_folder, write_private
from canopy.identity.svid import Bundle, Svid, Untrusted, make_csr, new_key, verify_chain
from canopy.runtime.clock import Clock

RENEW_AT = 0.5
"""Of a certificate's life: when no more is left, it is renewed."""
HUB = "hub"
RELOADED, TOLD = ".reloaded", ".told"


@dataclass(frozen=True, slots=True)
class Wanted:
    """An identity in a folder below the root."""

    folder: str
    id: SpiffeId
    ttl_seconds: float
    dns: tuple[str, ...] = ()


def wanted(trust_domain: str, ttl_seconds: float, hub_ttl_seconds: float, hub_dns: tuple[str, ...]) -> list[Wanted]:
    """Each cloud unit's (folded ones have one of their own), and the hub's last: when it is there, all are."""
    units = (*CLOUD_UNITS, FOLDED, SPIRE_INTEGRATION)
    found = [Wanted(f"cloud/{unit}", ids.cloud(trust_domain, unit), ttl_seconds) for unit in units]
    return [*found, Wanted(HUB, ids.hub(trust_domain), hub_ttl_seconds, hub_dns)]


def due(held: Identity | None, bundle: Bundle, want: Wanted, now: float) -> bool:
    """Whether a new certificate is to be minted."""
    if held is None or held.svid.id != want.id:
        return True
    try:
        verify_chain(held.svid.chain_pem, bundle, now)
    except Untrusted:
        return True
    life = min(want.ttl_seconds, held.svid.not_after - held.svid.not_before)  # what begins is put back by seconds
    return held.svid.not_after - now <= life * RENEW_AT


class Files:
    """`root` holds all folders. One replica at a time; whoever finds another at it does nothing."""

    def __init__(self, authority: Authority, root: Path, wants: Sequence[Wanted], clock: Clock) -> None:
        self._authority, self.root, self._wants, self._clock = authority, root, wants, clock

    async def turn(self) -> None:
        """Write what is due. Raises AuthorityAway, AuthorityRefused, OSError."""
        with self._locked() as mine:
            if not mine:
                return
            fresh = not (self.root / HUB / SVID_FILE).exists()
            bundle = await self._authority.bundle()
            for want in self._wants:
                await self._look(want, bundle)
            if fresh:
                self.reloaded()  # no server can run yet on what was not there

    def rotated(self) -> list[Svid]:
        """The certificates of which nobody has been told yet, in any replica. Raises OSError."""
        with self._locked() as mine:
            if not mine:
                return []
            told = self._told()
            found = [held.svid for want in self._wants if (held := _held(self.root / want.folder)) is not None]
            now = {str(svid.id): f"{svid.serial:x}" for svid in found}
            if now != told:
                write_private(self.root / TOLD, json.dumps(now).encode())
            return [svid for svid in found if told.get(str(svid.id)) != now[str(svid.id)]]

    def _told(self) -> dict[str, str]:
        try:
            told = json.loads((self.root / TOLD).read_bytes())
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}

    def hub_is_behind(self) -> bool:
        """Whether the hub's servers have not been told of their files as they are now."""
        try:
            return (self.root / HUB / RELOADED).read_text() != self._hub_digest()
        except OSError:
            return True

    def reloaded(self) -> None:
        """Every server of the hub has read them."""
        write_private(self.root / HUB / RELOADED, self._hub_digest().encode())

    def _hub_digest(self) -> str:
        pem = b"".join((self.root / HUB / name).read_bytes() for name in (SVID_FILE, BUNDLE_FILE))
        return hashlib.sha256(pem).hexdigest()

    async def _look(self, want: Wanted, bundle: Bundle) -> None:
        folder, now = self.root / want.folder, self._clock.now_ms() / 1000
        held = _held(folder)
        if due(held, bundle, want, now):
            write_identity(folder, Identity(await self._minted(want), bundle))
        elif held is not None and held.bundle != bundle:
            write_identity(folder, Identity(held.svid, bundle))

    async def _minted(self, want: Wanted) -> Svid:
        key = new_key()
        csr = make_csr(key, want.id, want.dns)
        minted = await self._authority.mint(csr, want.id, ttl_seconds=want.ttl_seconds, dns=want.dns)
        return Svid.of(minted.chain_pem, key)

    @contextmanager
    def _locked(self) -> Iterator[bool]:
        """False: another replica is at it."""
        private_folder(self.root)
        handle = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True
        except BlockingIOError:
            yield False
        finally:
            os.close(handle)


def _held(folder: Path) -> Identity | None:
    try:
        return read_identity(folder)
    except NoIdentity:
        return None
