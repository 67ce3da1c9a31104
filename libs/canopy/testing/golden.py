"""Golden files: text that a review should see change. CANOPY_SNAPSHOT=1 writes them anew."""

import os
from pathlib import Path


def golden(path: Path, now: str) -> None:
    """Fail unless the file holds just `now`."""
    if os.environ.get("CANOPY_SNAPSHOT"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(now)
    assert path.read_text() == now, f"{path.name} has changed: is it meant so? Then run again with CANOPY_SNAPSHOT=1"
