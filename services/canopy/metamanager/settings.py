"""Settings of MetaManager, CANOPY_METAMANAGER_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field

from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """How often and how patiently MetaManager asks."""

    unit: ClassVar[str] = "metamanager"

    check_seconds: float = Field(60.0, ge=1, le=3600, description="Seconds after which an equal set is compared anew.")
    ask_seconds: float = Field(
        10.0, ge=0.1, le=60, description="Seconds to wait for a page, with EdgeHub's own repeats and its queue."
    )
