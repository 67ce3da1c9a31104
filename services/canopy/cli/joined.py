"""Where a node that `canopy join` made lies on the disk, and the settings with which its processes run."""

from dataclasses import dataclass
from pathlib import Path

from canopy.contracts.roles import EDGE_UNITS, EDGEIDENTITY
from canopy.identity.private import write_private

NODE_UNITS = (EDGEIDENTITY, *EDGE_UNITS)


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of everything of one node: CANOPY_DATA_DIR of its units."""

    folder: Path

    @property
    def identity(self) -> Path:
        """What edgeidentity keeps."""
        return self.folder / "identity"

    @property
    def join(self) -> Path:
        return self.identity / "join"

    @property
    def config(self) -> Path:
        """The leaf's, which edgeidentity writes."""
        return self.identity / "nats.conf"

    @property
    def settings(self) -> Path:
        """Lines NAME=value, for CANOPY_ENV_FILE."""
        return self.folder / "node.env"


def write_settings(place: Place, node: str, trust_domain: str, hub: str) -> None:
    """What the node's processes need to know; what an operator has added to the file stays."""
    ours = {
        "CANOPY_NODE_NAME": node,
        "CANOPY_TRUST_DOMAIN": trust_domain,
        "CANOPY_DATA_DIR": str(place.folder),
        "CANOPY_IDENTITY_DIR": str(place.identity / "units" / "edge"),
        "CANOPY_NATS_URL": "tls://127.0.0.1:4222",
    } | ({"CANOPY_EDGEIDENTITY_HUB_URL": hub} if hub else {})
    there = place.settings.read_text().splitlines() if place.settings.exists() else []
    theirs = [text for text in there if text.partition("=")[0] not in ours]
    write_private(place.settings, "\n".join([*(f"{k}={v}" for k, v in ours.items()), *theirs, ""]).encode())


def commands(place: Place) -> list[str]:
    """What runs the node; the first writes the configuration that the second reads."""
    units = f"CANOPY_ENV_FILE={place.settings} canopy run {' '.join(NODE_UNITS)}"
    return [units, f"nats-server -c {place.config}"]
