"""Settings of CloudHub, CANOPY_CLOUDHUB_...; read in `unit.py`."""

from typing import ClassVar

from pydantic import Field, SecretStr

from canopy.runtime.settings import Listen, UnitSettings


class Settings(UnitSettings):
    """How much CloudHub takes, where its API listens, and which cluster it shows."""

    unit: ClassVar[str] = "cloudhub"

    api_listen: Listen = Field("127.0.0.1:8480", description="Fleet API: host:port; port 0 takes a free one.")
    api_token: SecretStr = Field(
        SecretStr(""),
        description="Standalone: who bears this token acts with the kubeconfig's rights. "
        "Empty: each caller's own token is handed on to Kubernetes.",
    )
    kubeconfig: str = Field(
        "",
        description="File that names the cluster; empty: that of this pod, and elsewhere none: then no fleet API.",
    )
    cache_url: str = Field("memory://", description="Live twins and presence: memory:// or redis://host:6379/0.")
    beat_seconds: float = Field(10.0, ge=0.2, le=300, description="Seconds between two beats of a node.")
    hellos_at_once: int = Field(32, ge=1, le=1000, description="Hellos in work at once; more are told to come later.")
    reports_per_batch: int = Field(500, ge=1, le=5000, description="Most device states in one message.")
    batches_at_once: int = Field(64, ge=2, le=1000, description="Messages of nodes in work at once, of each kind.")
    writes_at_once: int = Field(2000, ge=1, le=8000, description="Unanswered writes to TWINS at once.")
    refresh_seconds: float = Field(
        600.0,
        ge=1,
        description="Seconds after which a node's records are read anew from TWINS, and its live twins set.",
    )
    twins_max_bytes: int = Field(-1, ge=-1, description="Most bytes of the stream TWINS; -1: the account's limit.")
    watchers: int = Field(200, ge=0, le=10_000, description="Most watches of the fleet API at once.")
    watch_queue: int = Field(
        1000, ge=1, le=100_000, description="Events that wait for one watcher; more end its watch."
    )
    spans_kept: int = Field(10_000, ge=0, le=1_000_000, description="Spans kept for `canopy trace` (1 KB each).")
    spans_per_trace: int = Field(300, ge=1, le=10_000, description="Most spans kept of one trace.")
