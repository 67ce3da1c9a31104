"""What this unit sees and does not decide, for the audit: who came to the leaf, who was turned away, what was renewed.

`unit` runs it beside the rest.
"""

from collections.abc import Callable
from pathlib import Path

from canopy.bus import serverlog
from canopy.bus.comings import Client
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.slots import UNITS
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.svid import BadSvid, Bundle, certificates, spiffe_id
from canopy.runtime.audit import AuditLog
from canopy.runtime.clock import Clock
from canopy.runtime.tail import Tail

LOG_SECONDS = 1.0
DAY_SECONDS = 86_400.0
"""Rotations of one identity within a day are one record: many a day, and each of them as it should be."""
STRANGER = "it shows a certificate of this node, and is nobody that the leaf lets in (now)"


class Seen:
    """`came` and `refused` take the leaf's words, `look` the files'. `gate`: why no device is let in now, if so."""

    def __init__(self, folders: Folders, audit: AuditLog, gate: Callable[[], str]) -> None:
        self._audit, self._gate, self._leaf = audit, gate, folders.leaf
        self._folders = (folders.leaf, folders.link, *(folders.unit(unit) for unit in UNITS))
        self._serials = {folder: _serial(folder) for folder in self._folders}
        self._roots = _roots(self._leaf)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files to watch."""
        return (self._leaf / BUNDLE_FILE, *(folder / SVID_FILE for folder in self._folders))

    def came(self, client: Client) -> None:
        self._audit.record("admission", who=client.user, reason=f"leaf, {client.client_type}", where=client.host)

    def refused(self, client: Client) -> None:
        """The server does not say whom the certificate named, and what a client calls itself says nothing."""
        reason = self._gate() or STRANGER
        where, kind = client.host, client.client_type
        self._audit.record("admission", outcome="refused", reason=f"leaf, {kind}: {reason}", where=where)

    async def follow(self, log: Path, clock: Clock) -> None:
        """The leaf's log, until cancelled."""
        tail = Tail(log)
        try:
            while True:
                for line in tail.lines():
                    self.heard(line)
                await clock.sleep(LOG_SECONDS)
        finally:
            tail.close()

    def heard(self, line: str) -> None:
        """A line of the leaf's log: what TLS refused, no event tells of."""
        if (found := serverlog.refusal(line)) is not None:
            who = f"sha256:{found.certificate}" if found.certificate else ""
            self._audit.record(
                "admission", outcome="refused", who=who, reason=f"TLS: {found.reason}", where=found.where
            )

    def look(self) -> None:
        """Some file is another."""
        for folder in self._folders:
            found = _serial(folder)
            if found is not None and found != self._serials[folder]:
                self._serials[folder] = found
                who, serial, until = found
                self._audit.record("rotation", who=who, serial=serial, not_after=until, same_seconds=DAY_SECONDS)
        roots = _roots(self._leaf)
        if roots is not None and roots != self._roots:
            self._roots = roots
            self._audit.record("rotation", who=f"spiffe://{roots[0]}", reason=f"its roots are others: {len(roots) - 1}")


def _serial(folder: Path) -> tuple[str, str, int] | None:
    """(SPIFFE ID, serial, end in ms) of the certificate in a folder."""
    try:
        pem = (folder / SVID_FILE).read_bytes()
        leaf = certificates(pem[pem.index(b"-----BEGIN CERTIFICATE") :])[0]
        return str(spiffe_id(leaf)), f"{leaf.serial_number:x}", round(leaf.not_valid_after_utc.timestamp() * 1000)
    except (OSError, ValueError, BadSvid):
        return None


def _roots(folder: Path) -> tuple[str, ...] | None:
    """The trust domain, and the serials of its roots."""
    try:
        bundle = Bundle.read((folder / BUNDLE_FILE).read_bytes())
        serials = (f"{certificates(root)[0].serial_number:x}" for root in bundle.roots_pem)
        return (bundle.trust_domain, *sorted(serials))
    except (OSError, BadSvid):
        return None
