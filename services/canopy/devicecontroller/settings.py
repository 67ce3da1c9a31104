"""Settings of DeviceController, CANOPY_DEVICECONTROLLER_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field

from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """How often it writes to Kubernetes, and how its replicas find their leader."""

    unit: ClassVar[str] = "devicecontroller"

    kubeconfig: str = Field("", description="File that names the cluster; empty: the pod's own credentials.")
    namespace: str = Field("", description="Only Devices and DeviceModels of this namespace; empty: of all.")
    lease_namespace: str = Field("kube-system", description="Namespace of the Lease by which replicas find a leader.")
    lease_seconds: float = Field(
        15.0, ge=1, le=300, description="Seconds until another replica may lead in place of one that fell silent."
    )
    device_interval_seconds: float = Field(
        1.0, ge=0.1, le=3600, description="Least seconds between two writes of one device."
    )
    writes_per_second: float = Field(
        50.0, ge=0.1, le=10_000, description="Most devices written per second, in the whole cluster, as it goes on."
    )
    writes_at_first: int = Field(
        300,
        ge=1,
        le=100_000,
        description="Devices that may be written beyond that after quiet: so many whose states waited for a hub or for "
        "Kubernetes are right within 5 s of its return. More means a higher wave for Kubernetes then.",
    )
    looks_at_once: int = Field(16, ge=1, le=256, description="Devices that are looked at together.")
    gather_ms: float = Field(
        10.0, ge=0, le=1000, description="Milliseconds between pushes, in which changes gather; the first goes at once."
    )
    pages_at_once: int = Field(32, ge=1, le=1000, description="Pages that are answered together.")
    cluster_max_bytes: int = Field(
        1_000_000, ge=-1, description="Most bytes of the stream CLUSTER; -1: the account's limit."
    )
