"""Settings of the Mapper, CANOPY_MAPPER_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field

from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """Which driver this process runs, and how often it looks."""

    unit: ClassVar[str] = "mapper"

    driver: str = Field("modbus", description="Protocol of an installed driver, or the path of a one-file driver.")
    read_seconds: float = Field(30.0, gt=0, le=3600, description="Seconds between looks at the set of devices.")
    refresh_seconds: float = Field(
        60.0, ge=1, le=86_400, description="Seconds after which unchanged values are reported again."
    )
