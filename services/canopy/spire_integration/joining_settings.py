"""Settings of joining, CANOPY_SPIRE_INTEGRATION_JOIN_...; the unit's own Settings are built on them."""

from typing import ClassVar

from pydantic import Field, field_validator

from canopy.runtime.settings import HttpUrl, Listen, UnitSettings
from canopy.spire_integration.joining_core import PLACES, places

DAY_SECONDS = 86_400


class JoiningSettings(UnitSettings):
    """Where nodes join and renew, what they get, and who may."""

    unit: ClassVar[str] = "spire_integration"

    join_listen: Listen = Field(
        "127.0.0.1:8443",
        description="The endpoint (HTTPS) at which nodes join and renew: host:port; port 0: a free one.",
    )
    join_url: HttpUrl = Field(
        "", description="Where nodes reach that endpoint, put into tokens: https://host:port; empty: as it listens."
    )
    join_hub_url: str = Field(
        "",
        pattern=r"^(tls://[^\s,@/]+(,tls://[^\s,@/]+)*)?$",
        description="Where nodes' leaves reach the hub, put into tokens: tls://host:port, several servers with commas.",
    )
    node_ttl_seconds: int = Field(
        3600, ge=5, le=30 * DAY_SECONDS, description="Seconds that a node's certificate lasts."
    )
    node_grace_seconds: int = Field(
        30 * DAY_SECONDS,
        ge=0,
        le=3650 * DAY_SECONDS,
        description="Seconds after the end of its last certificate in which a node that was away may still renew it.",
    )
    join_makers: str = Field(
        "", description="File with the roots (PEM) of manufacturers whose certificates let machines join; empty: none."
    )
    join_maker_names: str = Field(
        "{cn}", description="Node's name in such a certificate: {cn}, {serial} (of the subject) or {dns} in a pattern."
    )
    join_asks_per_second: float = Field(
        10.0, gt=0, le=10_000, description="Asks (and connections) a second from one address, on average."
    )
    join_burst: int = Field(100, ge=1, le=100_000, description="Asks from one address at once.")
    join_connections_per_second: float = Field(
        100.0, gt=0, le=10_000, description="Connections a second from all addresses, on average; the next wait."
    )
    join_connections: int = Field(200, ge=1, le=10_000, description="Connections at once; the next wait.")
    join_connections_per_address: int = Field(50, ge=1, le=10_000, description="Of these, from one address.")

    @field_validator("join_maker_names")
    @classmethod
    def _known_places(cls, value: str) -> str:
        unknown = [place for place in places(value) if place not in PLACES]
        if unknown or not places(value):
            raise ValueError("must hold {cn}, {serial} or {dns}, such as 'edge-{serial}'")
        return value
