"""edgeidentity's settings: CANOPY_EDGEIDENTITY_<SETTING>."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from canopy.runtime.settings import Listen, ListenOrNot, UnitSettings, is_loopback

DAY_SECONDS = 24 * 3600


class Settings(UnitSettings):
    """See each description; the defaults suit a node whose leaf runs beside it."""

    unit: ClassVar[str] = "edgeidentity"

    folder: Path = Field(
        Path(),
        description="Folder of keys, certificates and the leaf's nats.conf, for this user alone; empty: identity in "
        "CANOPY_DATA_DIR.",
    )
    source: Literal["join", "files", "workload-api"] = Field(
        "join",
        description="Whence the link's certificate comes: join (a token, and renewal by the node's key), files (others "
        "write svid.pem and bundle.pem into link_folder), workload-api (this site's own SPIRE agent).",
    )
    link_folder: Path = Field(
        Path(), description="Folder of the link's svid.pem and bundle.pem; empty: link in the folder above."
    )
    workload_socket: Path = Field(
        Path("/run/spire/agent.sock"), description="Unix socket of the SPIRE agent's Workload API (workload-api)."
    )
    hub_url: str = Field(
        "tls://127.0.0.1:7422",
        pattern=r"^tls://[^\s,@/]+(,tls://[^\s,@/]+)*$",
        description="Where the hub's leaf port is: tls://host:port, several servers of one hub with commas.",
    )
    leaf_listen: Listen = Field("127.0.0.1:4222", description="Where the leaf listens for units and apps: host:port.")
    mqtt_listen: Listen = Field("127.0.0.1:8883", description="Where the leaf listens for MQTT over TLS: host:port.")
    leaf_http: str = Field("", description="The leaf's own monitoring: host:port; empty: none.")
    leaf_log: Path = Field(
        Path(), description="Log file of the leaf's nats-server on this machine: what TLS refused is audited from it."
    )
    leaf_names: str = Field(
        "", description="More names and addresses by which clients know the leaf's listeners, with spaces between."
    )
    store_folder: Path = Field(
        Path(), description="Folder of the leaf's JetStream; empty: jetstream in CANOPY_DATA_DIR."
    )
    max_file_bytes: int = Field(
        256 * 1024 * 1024, ge=16 * 1024 * 1024, description="Bytes that the leaf's JetStream may take on the disk."
    )
    admin_socket: Path = Field(
        Path(), description="Unix socket of `canopy device provision`; empty: admin.sock in the folder above."
    )
    front_listen: ListenOrNot = Field(
        "", description="Where devices with a password speak MQTT over TLS: host:port; empty: nowhere."
    )
    front_connections: int = Field(500, ge=1, le=50_000, description="Most MQTT clients at once through each front.")
    plain_listen: ListenOrNot = Field(
        "",
        description="Where everybody on this machine may speak MQTT as any device, without TLS and password: a "
        "loopback address with its port; empty: nowhere.",
    )
    svid_ttl_seconds: int = Field(
        3600, ge=2, description="How long certificates of units and of the leaf last; renewed at half of it."
    )
    ca_ttl_seconds: int = Field(
        2 * 365 * DAY_SECONDS,
        ge=10,
        description="How long a root of this node lasts; the next one is made, and trusted, at half of it.",
    )
    read_seconds: float = Field(30.0, gt=0, description="Seconds between looks at the set of devices, unasked.")
    look_seconds: float = Field(0.5, gt=0, le=30, description="Seconds between looks at files that others may renew.")

    @model_validator(mode="after")
    def _plain_stays_here(self) -> "Settings":
        if self.plain_listen and not is_loopback(self.plain_listen):
            raise ValueError(
                f"plain_listen (CANOPY_EDGEIDENTITY_PLAIN_LISTEN) is {self.plain_listen!r}, not loopback: use "
                "127.0.0.1, and front_listen for devices elsewhere"
            )
        return self

    @model_validator(mode="after")
    def _roots_outlast_what_they_sign(self) -> "Settings":
        if self.ca_ttl_seconds < 4 * self.svid_ttl_seconds:
            raise ValueError(
                "ca_ttl_seconds (CANOPY_EDGEIDENTITY_CA_TTL_SECONDS) must be at least four times svid_ttl_seconds "
                f"({self.svid_ttl_seconds}): a root is trusted for a while before it signs"
            )
        return self
