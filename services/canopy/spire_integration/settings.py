"""Settings of spire_integration, CANOPY_SPIRE_INTEGRATION_...; read in `unit.py` and `prepare.py`. Those of joining
stand in `joining_settings.py`.
"""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from canopy.spire_integration.core import Believed
from canopy.spire_integration.joining_settings import DAY_SECONDS, JoiningSettings


class Settings(JoiningSettings):
    """Who mints the fleet's certificates, where this unit's keys are, and what it keeps for others."""

    unit: ClassVar[str] = "spire_integration"

    keys_dir: Path = Field(
        Path(".canopy/keys"),
        description="Folder of the nkeys at the hub and of the join root, the same for all replicas; "
        "`python -m canopy.identity.hubkeys DIR` makes the nkeys.",
    )
    authority: Literal["builtin", "spire"] = Field(
        "builtin", description="Who mints certificates: builtin (one machine, demo, tests) or spire (a SPIRE server)."
    )
    builtin_dir: Path = Field(
        Path(".canopy/authority"), description="Folder of the built-in authority's roots, the same for all replicas."
    )
    builtin_ca_ttl_seconds: float = Field(
        60 * DAY_SECONDS, ge=60, description="Seconds that a root of the built-in authority lasts."
    )
    spire_socket: str = Field("", description="Unix socket of the SPIRE server's API, where it is on this machine.")
    spire_address: str = Field(
        "", description="host:port of the SPIRE server's API elsewhere; this unit's certificate must be an `admin`."
    )
    write_files_dir: str = Field(
        "",
        description="Folder in which to keep identities of the hub (hub/) and the cloud's units (cloud/UNIT/), where "
        "no agent of SPIRE does; empty: they are not written here.",
    )
    unit_ttl_seconds: float = Field(3600.0, ge=5, description="Seconds that a written certificate of a unit lasts.")
    hub_ttl_seconds: float = Field(
        30 * DAY_SECONDS,
        ge=5,
        description="Seconds that the hub's written certificate lasts; its servers read each new one when told here.",
    )
    hub_dns: str = Field("localhost", description="DNS names in the hub's written certificate, with spaces.")
    keep_seconds: float = Field(
        5.0, ge=0.2, le=3600, description="Seconds between two looks at files, entries and the hub's certificate."
    )
    entries_file: str = Field(
        "", description="JSON file that lists the entries which SPIRE should hold; empty: they are kept by others."
    )
    hub_log: str = Field(
        "",
        description="Log file of the hub's server, where it can be read: what TLS refuses is audited with the reason; "
        "empty: the servers are asked, who say only from where.",
    )

    authorities_between: int = Field(
        0,
        ge=0,
        le=8,
        description="Authorities between a root of the fleet and its own certificates: 0, or 1 where the fleet's SPIRE "
        "server has an upstream authority itself.",
    )
    nested_nodes: str = Field(
        "",
        description="Nodes, with spaces, whose certificate may come from a SPIRE server nested below the fleet's; "
        "whoever else comes with one of such a server is refused.",
    )

    @property
    def believed(self) -> Believed:
        return Believed(self.authorities_between, frozenset(self.nested_nodes.split()))

    @model_validator(mode="after")
    def _spire_is_somewhere(self) -> "Settings":
        if self.authority == "spire" and bool(self.spire_socket) == bool(self.spire_address):
            raise ValueError(
                "authority (CANOPY_SPIRE_INTEGRATION_AUTHORITY) is spire: say one of spire_socket "
                "(CANOPY_SPIRE_INTEGRATION_SPIRE_SOCKET) and spire_address (CANOPY_SPIRE_INTEGRATION_SPIRE_ADDRESS)"
            )
        return self
