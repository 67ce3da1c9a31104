"""What joining leaves on a node, in one folder (0700, files 0600): the node's key, whose certificate it gets, the join
root, and the last identity. `join` writes it; edgeidentity's JoinSource lives from it for ever.
"""

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from canopy.contracts.subject import BadToken, check_token
from canopy.identity.identity import BUNDLE_FILE, SVID_FILE, Identity, NoIdentity, read_identity
from canopy.identity.keys import BadKey, new_key, public_key
from canopy.identity.private import write_private
from canopy.identity.svid import BadSvid, Bundle, certificates

KEY_FILE, FACTS_FILE, ROOT_FILE = "node.key", "join.json", "join-root-certificate.pem"


class NotJoined(Exception):
    """The folder holds no state that can be used; the text says what to do."""


class OtherNode(Exception):
    """The folder is another node's."""


class _Facts(msgspec.Struct, frozen=True):
    """`join.json`."""

    node: str
    urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinState:
    """`key_pem` is the node's own, which never leaves this machine; `urls` are the endpoint's."""

    folder: Path
    node: str
    urls: tuple[str, ...]
    root_pem: bytes
    key_pem: bytes = field(repr=False)

    @classmethod
    def read(cls, folder: Path) -> "JoinState":
        """Raises NotJoined."""
        try:
            facts = msgspec.json.decode((folder / FACTS_FILE).read_bytes(), type=_Facts)
            key, root = (folder / KEY_FILE).read_bytes(), (folder / ROOT_FILE).read_bytes()
            public_key(key)
            certificates(root)
            check_token("node", facts.node)
        except FileNotFoundError:
            raise NotJoined(
                f"{folder} holds no joined node: let this machine join (canopy join URL --token ...)"
            ) from None
        except (OSError, msgspec.MsgspecError, UnicodeError, BadKey, BadSvid, BadToken) as e:
            raise NotJoined(f"{folder} cannot be read ({e}): remove it and join anew with a new token") from None
        return cls(folder, facts.node, facts.urls, root, key)

    @classmethod
    def begin(cls, folder: Path, node: str, urls: tuple[str, ...], root_pem: bytes) -> "JoinState":
        """For a machine that is about to join: only its key is written (that of an earlier try stays), so a node that
        tries another fleet in vain stays what it is. Raises OtherNode, OSError."""
        try:
            known = cls.read(folder)
        except NotJoined:
            known = None
        if known is not None and known.node != node:
            raise OtherNode(f"{folder} is of the node {known.node}, not {node}: name another folder, or remove it")
        return cls(folder, node, urls, root_pem, _key(folder / KEY_FILE))

    @property
    def public_key_pem(self) -> bytes:
        return public_key(self.key_pem)

    def kept(self) -> Identity | None:
        """The last identity that it was given, perhaps over; None before the first."""
        try:
            return read_identity(self.folder)
        except NoIdentity:
            return None

    def keep_bundle(self, bundle: Bundle) -> None:
        write_private(self.folder / BUNDLE_FILE, bundle.pem)

    def keep(self, identity: Identity) -> None:
        """The machine is that node from now on; what names the node is written last."""
        self.keep_bundle(identity.bundle)
        write_private(self.folder / SVID_FILE, identity.svid.pem)
        facts = msgspec.json.encode(_Facts(self.node, self.urls))
        for name, content in ((ROOT_FILE, self.root_pem), (FACTS_FILE, facts)):
            file = self.folder / name
            if not file.exists() or file.read_bytes() != content:
                write_private(file, content)


def _key(file: Path) -> bytes:
    """The one that is there, else a new one."""
    try:
        found = file.read_bytes()
        public_key(found)
    except (FileNotFoundError, BadKey):
        found = new_key()
        write_private(file, found)
    return found
