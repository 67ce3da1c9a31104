"""Settings of EdgeHub, CANOPY_EDGEHUB_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field

from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """What this node says of itself, and how patient EdgeHub is with the link."""

    unit: ClassVar[str] = "edgehub"

    labels: dict[str, str] = Field(default_factory=dict, description="Labels of this node, as a JSON object.")
    capacity: dict[str, str] = Field(
        default_factory=dict, description='Capacity of this node as in Kubernetes, as a JSON object: {"cpu": "4"}.'
    )
    ask_seconds: float = Field(1.0, gt=0, le=30, description="Seconds to wait for CloudHub's answer before a repeat.")
    ask_tries: int = Field(3, ge=1, le=10, description="How often an ask is sent before the cloud counts as away.")
    look_seconds: float = Field(
        0.4,
        ge=0.1,
        le=0.9,
        description="Seconds between looks at the leaf's connection (it reconnects after 1 s).",
    )
    reports_at_once: int = Field(4, ge=1, le=64, description="Batches of device states on the link at once.")
    compare_seconds: float = Field(
        60.0, ge=1, le=3600, description="Seconds after which the sets are compared although states wait to be sent."
    )
    spans_kept: int = Field(
        2000, ge=1, le=100_000, description="Finished spans that wait for the link, at most (about 1 KB each)."
    )
