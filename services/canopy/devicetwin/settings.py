"""DeviceTwin's settings: CANOPY_DEVICETWIN_<SETTING>."""

from typing import ClassVar

from pydantic import Field

from canopy.contracts.devices import MAX_VALUE_BYTES
from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """See each description; the defaults suit one node with some thousand devices."""

    unit: ClassVar[str] = "devicetwin"

    gateway_max_bytes: int = Field(
        31 * 1024 * 1024,  # from 32 MiB on nats-server holds blocks of 8 MiB in its memory, below it of 4 MiB
        ge=1024 * 1024,
        description="Bytes that MQTT messages (QoS 1, 2) may take while this unit is away; then their senders wait.",
    )
    value_max_bytes: int = Field(
        MAX_VALUE_BYTES, ge=1, le=128 * 1024, description="The most bytes that one value of a twin may have."
    )
    waiting_max_messages: int = Field(
        20_000, ge=100, description="Messages (QoS 0, mappers) that may wait for a commit; more are refused or dropped."
    )
    read_seconds: float = Field(30.0, gt=0, description="Seconds between looks at the set of devices, unasked.")
    report_seconds: float = Field(5.0, gt=0, description="Seconds to wait for the cloud's answer to one report.")
    report_pause_seconds: float = Field(
        0.05, ge=0, description="The least seconds between two reports upward; what changes meanwhile goes together."
    )
    delta_first_seconds: float = Field(1.0, gt=0, description="Seconds until a delta is said again the first time.")
    delta_most_seconds: float = Field(60.0, gt=0, description="The most seconds between two times.")
