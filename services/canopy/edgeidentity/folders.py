"""Where everything of this unit stands on the disk, and what the leaf is called. Only names: nothing is read here
but this machine's boot id.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from canopy.edgeidentity.settings import Settings
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Folders:
    """All paths are absolute: nats-server reads them from wherever it was started."""

    root: Path
    link: Path
    store: Path

    @classmethod
    def of(cls, settings: Settings, data_dir: Path) -> "Folders":
        root = _given(settings.folder, data_dir / "identity")
        return cls(
            root, _given(settings.link_folder, root / "link"), _given(settings.store_folder, data_dir / "jetstream")
        )

    @property
    def authority(self) -> Path:
        """The node's own authority: its roots and their keys."""
        return self.root / "authority"

    @property
    def leaf(self) -> Path:
        """The leaf's listeners."""
        return self.root / "leaf"

    @property
    def join(self) -> Path:
        """What joining left: the node's key, where to renew."""
        return self.root / "join"

    @property
    def config(self) -> Path:
        """What nats-server is started with."""
        return self.root / "nats.conf"

    @property
    def gate(self) -> Path:
        """Which devices were let in, and in which run of the leaf."""
        return self.root / "gate.json"

    def unit(self, unit: str) -> Path:
        """The identity of a unit of this node, of `edge` (several folded) or of edgeidentity."""
        return self.root / "units" / unit

    @property
    def read_by_the_leaf(self) -> tuple[Path, ...]:
        """The files whose change wants a reload."""
        return tuple(folder / name for folder in (self.leaf, self.link) for name in (SVID_FILE, BUNDLE_FILE))


def _given(path: Path, otherwise: Path) -> Path:
    return (otherwise if path == Path() else path).absolute()


def machine(folder: Path) -> str:
    """What no other machine says, and no copy of `folder` either; the same for as long as a nats-server can run.

    A hub lets only one leaf of a name stay: two machines that bear one identity would throw each other out all the
    time, before either is told of the other.
    """
    boot = BOOT_ID.read_bytes() if BOOT_ID.exists() else b""
    found = folder.stat()
    return hashlib.blake2b(boot + f"{found.st_dev}:{found.st_ino}".encode(), digest_size=4).hexdigest()
