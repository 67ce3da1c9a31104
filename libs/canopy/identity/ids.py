"""SPIFFE IDs and who they name, pure. Everybody who decides by an identity calls it.

The fleet's trust domain holds cloud units, nodes and the hub; each node has a trust domain of its own below it, for
its units, devices and apps. Strict both ways: what is not exactly such a name is nobody.
"""

import re
from dataclasses import dataclass
from typing import Literal

from canopy.contracts.roles import ROLES
from canopy.contracts.subject import BadToken, check_token

LONGEST_BYTES = 2048
"""Of a whole SPIFFE ID, by its standard."""
FOLDED = "cloud"
"""The unit's name of a process that folds the cloud units."""
_SCHEME = "spiffe://"
_DOMAIN = re.compile(r"[a-z0-9._-]{1,255}")
_SEGMENT = re.compile(r"[A-Za-z0-9._-]+")


class BadId(ValueError):
    """A text that is no SPIFFE ID, or a name that cannot stand in one."""


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """`spiffe://{trust_domain}{path}`; the path is empty (the domain itself) or begins with '/'."""

    trust_domain: str
    path: str

    def __post_init__(self) -> None:
        segments = self.path.split("/")[1:]
        whole = all(_SEGMENT.fullmatch(s) and s not in (".", "..") for s in segments)
        if not _DOMAIN.fullmatch(self.trust_domain) or not whole or (self.path and self.path[0] != "/"):
            raise BadId(f"{str(self)[:300]!r} is no SPIFFE ID: write spiffe://DOMAIN/PATH, of a-z A-Z 0-9 . _ -")
        if len(str(self)) > LONGEST_BYTES:
            raise BadId(f"a SPIFFE ID of {len(str(self))} bytes: at most {LONGEST_BYTES}")

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.path.split("/")[1:])


def parse(text: str) -> SpiffeId:
    """The SPIFFE ID that `text` is; raises BadId."""
    if not text.startswith(_SCHEME):
        raise BadId(f"{text[:300]!r} is no SPIFFE ID: it does not begin with {_SCHEME}")
    domain, slash, path = text[len(_SCHEME) :].partition("/")
    return SpiffeId(domain, slash + path)


def cloud(td: str, unit: str) -> SpiffeId:
    """A cloud unit, or `cloud`: several folded in one process."""
    if unit != FOLDED and unit not in ROLES:
        raise BadId(f"{unit!r} is no unit: {', '.join((FOLDED, *ROLES))}")
    return SpiffeId(td, f"/cloud/{unit}")


def hub(td: str) -> SpiffeId:
    """The hub's servers."""
    return SpiffeId(td, "/hub")


def node(td: str, name: str) -> SpiffeId:
    """A node as the fleet knows it: its leaf's link."""
    return SpiffeId(td, f"/node/{_name('node', name)}")


def node_domain(td: str, name: str) -> str:
    """The trust domain of a node's own authority."""
    domain = f"{_name('node', name)}.{td}"
    if not _DOMAIN.fullmatch(domain):
        raise BadId(f"the trust domain {domain[:300]!r} is not at most 255 of a-z 0-9 . _ -: use a shorter name")
    return domain


def local(td: str, name: str, unit: str) -> SpiffeId:
    """A unit on a node (or `edge`, `edgeidentity`, `leaf`), under the node's own authority."""
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,63}", unit):
        raise BadId(f"{unit!r} is no name of a unit")
    return SpiffeId(node_domain(td, name), f"/{unit}")


def device(td: str, name: str, namespace: str, device_name: str) -> SpiffeId:
    """A device on a node."""
    path = f"/device/{_name('namespace', namespace)}/{_name('name', device_name)}"
    return SpiffeId(node_domain(td, name), path)


def app(td: str, name: str, app_name: str) -> SpiffeId:
    """A workload on a node that is neither unit nor device."""
    return SpiffeId(node_domain(td, name), f"/app/{_name('name', app_name)}")


@dataclass(frozen=True, slots=True)
class FleetMember:
    """Whom the fleet's trust domain names: `name` is the unit, the node, or `hub`."""

    kind: Literal["cloud", "node", "hub"]
    name: str


def member(td: str, id: SpiffeId) -> FleetMember | None:
    """Who `id` is in the fleet `td`; None for everybody else, a node's own authority included."""
    match id.segments:
        case ("hub",) if id == hub(td):
            return FleetMember("hub", "hub")
        case ("cloud", unit) if id.trust_domain == td and (unit == FOLDED or unit in ROLES):
            return FleetMember("cloud", unit)
        case ("node", name) if id.trust_domain == td and _is_name(name):
            return FleetMember("node", name)
    return None


def _name(place: str, value: str) -> str:
    try:
        return check_token(place, value)
    except BadToken as e:
        raise BadId(str(e)) from e


def _is_name(value: str) -> bool:
    try:
        return bool(check_token("node", value))
    except BadToken:
        return False
