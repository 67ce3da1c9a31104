"""How long the certificates of this node last: told as metrics and as health, well before one ends."""

import logging
from pathlib import Path

from canopy.contracts.times import rfc3339
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.slots import Lasts
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE
from canopy.identity.svid import BadSvid, Svid, certificates
from canopy.runtime.clock import Clock
from canopy.runtime.health import Health, Metrics

log = logging.getLogger("canopy.edgeidentity")
LITTLE = 0.25
"""Of its life: what should have been renewed at half of it was not."""
BACKDATED_SECONDS = 10.0
"""What every authority puts a certificate's beginning before the time at which it is made."""
CHECK = "link-certificate"


class Lasting:
    """Reads the files again when it is told to; `tell` says what is left now."""

    def __init__(self, folders: Folders, clock: Clock, health: Health, metrics: Metrics) -> None:
        self._folders, self._clock, self._health = folders, clock, health
        self._link = self._leaf = self._root = Lasts(0, 0)
        health.tell("link_until", lambda: rfc3339(round(self._link.not_after * 1000)))
        health.tell("link_late", lambda: "yes" if self._late else "no")
        metrics.gauge("canopy_edgeidentity_link_late", read=lambda: float(self._late))
        metrics.gauge("canopy_edgeidentity_link_left_seconds", read=lambda: self._left(self._link))
        metrics.gauge("canopy_edgeidentity_leaf_left_seconds", read=lambda: self._left(self._leaf))
        metrics.gauge("canopy_edgeidentity_root_left_seconds", read=lambda: self._left(self._root))
        self.read()

    def read(self) -> None:
        """The files are others."""
        self._link, self._leaf = _svid(self._folders.link / SVID_FILE), _svid(self._folders.leaf / SVID_FILE)
        self._root = _newest_root(self._folders.leaf / BUNDLE_FILE)
        self.tell()

    def tell(self) -> None:
        """Once in a while: time alone changes what is true."""
        left, ok = self._left(self._link), not self._late
        words = (
            f"ends in {left:.0f} s" if left > 0 else f"ended {-left:.0f} s ago: the node works on, the hub refuses it"
        )
        self._health.set(CHECK, ok, words if ok else f"{words}; why is it not renewed? (log of edgeidentity)")

    @property
    def _late(self) -> bool:
        return self._left(self._link) <= LITTLE * (self._link.not_after - self._link.not_before)

    def _left(self, lasts: Lasts) -> float:
        return lasts.not_after - self._clock.now_ms() / 1000


def _svid(path: Path) -> Lasts:
    try:
        found = Svid.read(path.read_bytes())
    except (OSError, BadSvid) as e:
        log.warning("%s cannot be read: %s", path, e)
        return Lasts(0, 0)
    return Lasts(found.not_before, found.not_after)


def _newest_root(path: Path) -> Lasts:
    try:
        roots = certificates(path.read_bytes())
    except (OSError, BadSvid) as e:
        log.warning("%s cannot be read: %s", path, e)
        return Lasts(0, 0)
    newest = max(roots, key=lambda root: root.not_valid_after_utc)
    return Lasts(newest.not_valid_before_utc.timestamp(), newest.not_valid_after_utc.timestamp())
