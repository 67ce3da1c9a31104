"""What a process is: its SVID and the roots it believes, in memory and as two files. Sources give it, TLS takes it."""

from dataclasses import dataclass
from pathlib import Path

from canopy.identity.private import write_private
from canopy.identity.svid import BadSvid, Bundle, Svid

SVID_FILE = "svid.pem"
BUNDLE_FILE = "bundle.pem"


class NoIdentity(Exception):
    """No identity can be read; the text says what is missing and who writes it."""


@dataclass(frozen=True, slots=True)
class Identity:
    svid: Svid
    bundle: Bundle

    def left_seconds(self, now: float) -> float:
        """How long it lasts from `now` (s since 1970); negative when it is over."""
        return self.svid.not_after - now


def read_identity(folder: Path) -> Identity:
    """The identity in `folder`; raises NoIdentity."""
    try:
        svid = Svid.read((folder / SVID_FILE).read_bytes())
        return Identity(svid, Bundle.read((folder / BUNDLE_FILE).read_bytes()))
    except OSError as e:
        raise NoIdentity(
            f"{e.filename}: {e.strerror}; edgeidentity writes it on a node, in the cloud canopy.identity.helper "
            "(or spire_integration, where the authority is the built-in one)"
        ) from None
    except BadSvid as e:
        raise NoIdentity(f"{folder}: {e}") from None


def write_identity(folder: Path, identity: Identity) -> None:
    """Put the identity into `folder`, each file 0600 and whole; the roots first, since the SVID may need them."""
    write_private(folder / BUNDLE_FILE, identity.bundle.pem)
    write_private(folder / SVID_FILE, identity.svid.pem)
