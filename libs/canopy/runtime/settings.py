"""The one settings door. Each unit's `settings.py` holds a UnitSettings with prose per setting; `unit.py` calls `load`.

A value comes from overrides (the command line), else the environment, else the file that CANOPY_ENV_FILE names, else
the default. Settings of a unit are named CANOPY_<UNIT>_<SETTING>, nested ones with `__`; shared ones CANOPY_<SETTING>.
"""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

from dotenv import dotenv_values
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as Unreadable

from canopy.runtime.settings_faults import NESTED, prefix, prose, sentence, shown, unreadable, variable
from canopy.runtime.settings_kinds import (
    HttpUrl,
    Listen,
    ListenOrNot,
    NatsUrl,
    NodeName,
    TrustDomain,
    host_and_port,
    is_loopback,
)

__all__ = [
    "HttpUrl",
    "Listen",
    "ListenOrNot",
    "NatsUrl",
    "NodeName",
    "SettingsError",
    "Shared",
    "TrustDomain",
    "UnitSettings",
    "host_and_port",
    "is_loopback",
    "load",
    "variables",
]

ENV_FILE = "CANOPY_ENV_FILE"

S = TypeVar("S", bound="UnitSettings")


class SettingsError(Exception):
    """A setting is wrong. The text names it, its variable, its value (secrets masked) and what would be right."""


class UnitSettings(BaseSettings):
    """Base of every unit's settings: set `unit`, and give every field a default and a description with its unit."""

    unit: ClassVar[str] = ""
    gone: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Settings of former releases: what there is in their place. A variable that is still set would say nothing."""
    # extra: an env file is for several units; `load` refuses unknown names itself
    model_config = SettingsConfigDict(env_nested_delimiter=NESTED, extra="ignore", frozen=True, validate_default=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.model_config["env_prefix"] = prefix(cls.unit)


class Shared(UnitSettings):
    """What every unit of a process shares."""

    gone: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("nats_user", "nats_password"),
        "NATS knows by certificates; unset it, and name the folder of one in CANOPY_IDENTITY_DIR",
    )

    node_name: NodeName = Field("edge", description="Name of this node in Kubernetes; a Kubernetes name.")
    nats_url: NatsUrl = Field(
        "nats://127.0.0.1:4222",
        description="Where this unit's NATS listens: nats://host:port, several servers of one hub with commas.",
    )
    identity_dir: str = Field(
        "", description="Folder with svid.pem and bundle.pem, by which NATS knows this process; read when they change."
    )
    trust_domain: TrustDomain = Field("canopy.test", description="The fleet's SPIFFE trust domain, a DNS name.")
    stream_replicas: int = Field(
        1, ge=1, le=5, description="Copies of each stream of the hub: 3 in a hub of 3 servers; a change is carried out."
    )
    data_dir: Path = Field(Path(".canopy"), description="Folder of this unit's files, made if missing.")
    health_listen: Listen = Field("127.0.0.1:0", description="Health and metrics: host:port; port 0 takes a free one.")
    otlp_endpoint: HttpUrl = Field("", description="URL that takes spans by OTLP over HTTP; empty: spans stay here.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="The least that is logged.")
    log_format: Literal["plain", "json"] = Field("plain", description="plain: for people. json: one object a line.")
    traces_per_second: float = Field(
        5.0, ge=0, le=1000, description="Traces begun per second for what carries none; 0: only what carries one."
    )
    drain_seconds: float = Field(10.0, gt=0, le=300, description="Seconds that units have to end after SIGTERM.")
    insecure_listen: bool = Field(
        False, description="true: HTTP (health, API) may listen beyond loopback without TLS, in a network of its own."
    )

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> "Shared":
        if not self.insecure_listen and not is_loopback(self.health_listen):
            raise ValueError(
                f"health_listen ({variable(self.unit, 'health_listen')}) is {self.health_listen!r}, not loopback: "
                f"use 127.0.0.1, or say {variable(self.unit, 'insecure_listen')}=true"
            )
        return self


def load(cls: type[S], overrides: Mapping[str, Any] | None = None) -> S:
    """Read one settings class; `overrides` (name -> value) wins. SettingsError has a line for each fault.

    A variable that begins like the unit's but names no setting is a fault too: a mistyped one would say nothing.
    """
    file, given = _env_file(), dict(overrides or {})
    _refuse_unknown(cls, given, {*os.environ, *(dotenv_values(file) if file else ())})
    build: Any = cls  # the plugin for mypy that knows `_env_file` is not worth it
    try:
        settings: S = build(_env_file=file, **given)
    except ValidationError as error:
        raise SettingsError("\n".join(sentence(cls.unit, cls, detail) for detail in error.errors())) from None
    except Unreadable as error:
        raise SettingsError(unreadable(cls.unit, cls, str(error))) from None
    return settings


def variables(cls: type[UnitSettings]) -> list[tuple[str, str, str]]:
    """(variable, default, prose) of each setting, for `--help` and the documentation."""
    return [
        (variable(cls.unit, name), shown(field.annotation, field.default), prose(cls, name))
        for name, field in cls.model_fields.items()
    ]


def _env_file() -> Path | None:
    named = os.environ.get(ENV_FILE)
    if not named:
        return None
    if not os.access(named, os.R_OK) or not Path(named).is_file():
        raise SettingsError(
            f"{ENV_FILE} is {named!r}: not a readable file; name one with lines NAME=value, or unset it"
        )
    return Path(named)


def _refuse_unknown(cls: type[UnitSettings], given: Iterable[str], environment: Collection[str]) -> None:
    """The environment's only for units' own names: every unit's variables begin like the shared ones."""
    gone = {variable(cls.unit, name): instead for name, instead in cls.gone.items()}
    if still := sorted(gone.keys() & set(environment)):
        raise SettingsError("\n".join(f"{name} is no setting any more: {gone[name]}" for name in still))
    known = [variable(cls.unit, name) for name in cls.model_fields]
    theirs = [name for name in environment if cls.unit and name.startswith(prefix(cls.unit))]
    wrong = [name for name in theirs if name not in known and not name.startswith(tuple(k + NESTED for k in known))]
    wrong += [name for name in given if name not in cls.model_fields]
    if wrong:
        of = cls.unit or "the shared ones"
        raise SettingsError(f"{', '.join(sorted(wrong))}: no such setting of {of}; there are {', '.join(known)}")
