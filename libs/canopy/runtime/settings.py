"""The one settings door. Each unit's `settings.py` holds a UnitSettings with prose per setting; `unit.py` calls `load`.

A value comes from overrides (the command line), else the environment, else the file that CANOPY_ENV_FILE names, else
the default. Settings of a unit are named CANOPY_<UNIT>_<SETTING>, shared ones CANOPY_<SETTING>; a mapping is JSON.
"""

import inspect
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self, TypeVar

from dotenv import dotenv_values

from canopy.runtime.settings_fields import Field, Kind, SecretStr, Setting, declared
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
    "Field",
    "HttpUrl",
    "Kind",
    "Listen",
    "ListenOrNot",
    "NatsUrl",
    "NodeName",
    "SecretStr",
    "SettingsError",
    "Shared",
    "TrustDomain",
    "UnitSettings",
    "host_and_port",
    "is_loopback",
    "load",
    "rule",
    "variables",
]

ENV_FILE = "CANOPY_ENV_FILE"

S = TypeVar("S", bound="UnitSettings")
Rule = TypeVar("Rule", bound=Callable[[Any], None])


class SettingsError(Exception):
    """A setting is wrong. The text names it, its variable, its value (secrets masked) and what would be right."""


def rule(method: Rule) -> Rule:
    """A method that raises ValueError where settings, each good by itself, do not go together."""
    method.is_rule = True  # type: ignore[attr-defined]
    return method


class UnitSettings:
    """Base of every unit's settings: set `unit`, and give every `Field` a default and a description with its unit."""

    unit: ClassVar[str] = ""
    gone: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Settings of former releases: what there is in their place. A variable that is still set would say nothing."""
    fields: ClassVar[Mapping[str, Setting]] = MappingProxyType({})
    _rules: ClassVar[tuple[Callable[[Any], None], ...]] = ()

    def __init_subclass__(cls) -> None:
        cls.fields = MappingProxyType({**cls.fields, **declared(cls, inspect.get_annotations(cls))})
        cls._rules = (*cls._rules, *(one for one in vars(cls).values() if getattr(one, "is_rule", False)))

    def __init__(self, **given: Any) -> None:
        """The given ones, in place of defaults. Raises SettingsError, with a line for each fault."""
        faults = [*self._read(given)] or [*self._broken()]
        if faults:
            raise SettingsError("\n".join(faults))

    def _read(self, given: Mapping[str, Any]) -> Iterator[str]:
        """Set each field; what is wrong with its value."""
        for name, setting in self.fields.items():
            value = given.get(name, setting.default)
            try:
                object.__setattr__(self, name, setting.read(value))
            except ValueError as e:
                where = f"{name} ({variable(self.unit, name)})"
                yield f"{where} is {setting.shown(value)}: {e}. {setting.description}".rstrip()

    def _broken(self) -> Iterator[str]:
        """What the rules that do not hold say."""
        for one in self._rules:
            try:
                one(self)
            except ValueError as e:
                yield str(e)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{n}={s.shown(getattr(self, n))}' for n, s in self.fields.items())})"

    def but(self, **changes: Any) -> Self:
        """The same with other values. Raises SettingsError."""
        return type(self)(**{**vars(self), **changes})


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
        False, description="true: may listen beyond loopback without identity, inside a network of its own."
    )

    @rule
    def _loopback_unless_told(self) -> None:
        if not self.insecure_listen and not is_loopback(self.health_listen):
            raise ValueError(
                f"health_listen ({variable(self.unit, 'health_listen')}) is {self.health_listen!r}, not loopback: "
                f"use 127.0.0.1, or say {variable(self.unit, 'insecure_listen')}=true"
            )


def load(cls: type[S], overrides: Mapping[str, Any] | None = None) -> S:
    """Read one settings class; `overrides` (name -> value) wins. SettingsError has a line for each fault.

    A variable that begins like the unit's but names no setting is a fault too: a mistyped one would say nothing.
    """
    file, given = _env_file(), dict(overrides or {})
    environment = {**(dotenv_values(file) if file else {}), **os.environ}
    _refuse_unknown(cls, given, environment)
    found = {name: environment.get(variable(cls.unit, name)) for name in cls.fields}
    return cls(**{**{name: text for name, text in found.items() if text is not None}, **given})


def variables(cls: type[UnitSettings]) -> list[tuple[str, str, str]]:
    """(variable, default, prose) of each setting, for `--help` and the documentation."""
    return [
        (variable(cls.unit, name), setting.shown(setting.default), setting.description)
        for name, setting in cls.fields.items()
    ]


def prefix(unit: str) -> str:
    """What variables of a unit ("": shared ones) begin with."""
    return f"CANOPY_{unit.upper().replace('-', '_')}_" if unit else "CANOPY_"


def variable(unit: str, name: str) -> str:
    """The environment variable of a setting."""
    return prefix(unit) + name.upper()


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
    known = [variable(cls.unit, name) for name in cls.fields]
    wrong = [name for name in environment if cls.unit and name.startswith(prefix(cls.unit)) and name not in known]
    wrong += [name for name in given if name not in cls.fields]
    if wrong:
        of = cls.unit or "the shared ones"
        raise SettingsError(f"{', '.join(sorted(wrong))}: no such setting of {of}; there are {', '.join(known)}")
