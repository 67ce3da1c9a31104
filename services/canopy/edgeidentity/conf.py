"""The leaf's nats.conf: rendered for what it should be running with, and written for this user alone.

`leafward` writes the open form for as long as a reload takes, and the closed one for every other moment.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from canopy.bus.config import Leaf
from canopy.bus.rights import Permissions, app_rights, device_permissions, device_rights
from canopy.bus.trust import LeafTrust
from canopy.edgeidentity.core import Form, Guest
from canopy.edgeidentity.folders import Folders, machine
from canopy.edgeidentity.settings import Settings
from canopy.identity.private import write_private

CLOSED = Form(None, 0)


@dataclass(frozen=True, slots=True)
class Config:
    """`leaf` is what never changes while this unit runs."""

    leaf: Leaf
    path: Path

    @classmethod
    def of(cls, settings: Settings, folders: Folders, td: str, node: str) -> "Config":
        listener, listener_bundle, link, link_bundle = map(str, folders.read_by_the_leaf)
        leaf = Leaf(
            str(folders.store),
            settings.hub_url,
            LeafTrust(node, td, listener, listener_bundle, link, link_bundle, gated=True),
            settings.leaf_listen,
            settings.mqtt_listen,
            settings.leaf_http,
            settings.max_file_bytes,
            machine=machine(folders.root),
        )
        return cls(leaf, folders.config)

    def text(self, form: Form) -> str:
        """The file for `form`."""
        devices = tuple((guest.id, self._rights(guest)) for guest in sorted(form.guests or ()))
        return replace(self.leaf, trust=replace(self.leaf.trust, devices=devices, gated=form.gated)).text()

    def write(self, form: Form) -> None:
        """On the disk when this returns, after a power cut too."""
        write_private(self.path, self.text(form).encode())

    def _rights(self, guest: Guest) -> Permissions:
        node = self.leaf.trust.node
        if not guest.name:  # whoever comes by the plain port
            return device_permissions()
        return device_rights(guest.namespace, guest.name, node) if guest.namespace else app_rights(node)
