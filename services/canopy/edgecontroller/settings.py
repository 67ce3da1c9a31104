"""Settings of EdgeController, CANOPY_EDGECONTROLLER_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field, model_validator

from canopy.runtime.settings import UnitSettings


class Settings(UnitSettings):
    """When a node counts as gone, what it may say of itself, and how replicas find their leader."""

    unit: ClassVar[str] = "edgecontroller"

    kubeconfig: str = Field("", description="File that names the cluster; empty: the pod's own credentials.")
    lease_namespace: str = Field("kube-system", description="Namespace of the Lease by which replicas find a leader.")
    lease_seconds: float = Field(15.0, ge=1, le=300, description="Seconds after which another replica may lead.")
    gone_after_seconds: float = Field(40.0, ge=1, le=3600, description="Seconds of silence after which a node is gone.")
    renew_seconds: float = Field(10.0, ge=0.1, le=600, description="Least seconds between renewals of a node's Lease.")
    refresh_seconds: float = Field(
        300.0, ge=1, le=3600, description="Seconds after which a Node's status is written again though nothing changed."
    )
    listen_first_seconds: float = Field(
        25.0, ge=0, le=3600, description="Seconds that a replica listens before it may say of a node that it is gone."
    )
    label_prefixes: str = Field(
        "edge.canopy.dev/,topology.kubernetes.io/,kubernetes.io/arch,kubernetes.io/os",
        description="Beginnings of labels that a node may give to its Node, with commas.",
    )
    writes_per_second: float = Field(100.0, ge=0.1, le=10_000, description="Most Nodes written per second.")
    renewals_per_second: float = Field(
        1000.0, ge=0.1, le=100_000, description="Most Leases renewed per second; more nodes are renewed more rarely."
    )
    looks_at_once: int = Field(16, ge=1, le=256, description="Nodes that are looked at together.")

    @model_validator(mode="after")
    def _renewed_in_time(self) -> "Settings":
        if self.renew_seconds * 2 > self.gone_after_seconds:
            raise ValueError(
                f"renew_seconds (CANOPY_EDGECONTROLLER_RENEW_SECONDS) is {self.renew_seconds:g}: "
                f"it must be at most half of gone_after_seconds, {self.gone_after_seconds:g}"
            )
        return self

    @property
    def allowed(self) -> tuple[str, ...]:
        return tuple(prefix.strip() for prefix in self.label_prefixes.split(",") if prefix.strip())
