"""The fleet in one page: cloud units, nodes and devices counted by state, who is in trouble, versions. Pure.

`adapters/whys.py` gives it what the caller may see.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from canopy.bus.healths import by_unit
from canopy.contracts.roles import CLOUD_UNITS
from canopy.contracts.times import millis
from canopy.contracts.wire import Presence, TwinRecord, UnitHealth

LED = ("devicecontroller", "edgecontroller")
MOST_SHOWN = 10
MOST_NAMED = 3
ILL = ("offline", "unhealthy")
LINK = "link"
"""What a node's own certificate at the hub is called beside those of its units; edgeidentity says it."""

NodeWord = Literal["ready", "degraded", "away"]


@dataclass(frozen=True, slots=True)
class UnitState:
    """`leader` is None for a unit that needs none."""

    unit: str
    replicas: int
    leader: bool | None
    wrong: str


@dataclass(frozen=True, slots=True)
class NodeState:
    """`since` (ms; 0: never) is when it was last heard."""

    name: str
    state: NodeWord
    since: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Lasting:
    """Until when (ms) a certificate lasts. `node` is empty in the cloud; units that share it stand side by side.
    `late`: it should have been renewed by now, or is over."""

    node: str
    units: str
    until: int
    late: bool


@dataclass(frozen=True, slots=True)
class Tally:
    """What `canopy status` shows."""

    units: list[UnitState]
    nodes: Mapping[str, int]
    troubled_nodes: list[NodeState]
    devices: Mapping[str, int]
    troubled_devices: list[str]
    troubled_devices_count: int
    waiting: int
    versions: Mapping[str, list[str]] = field(default_factory=dict)
    identities: list[Lasting] = field(default_factory=list)
    identities_count: int = 0
    identities_late: int = 0

    @property
    def well(self) -> bool:
        sick = any(u.wrong or u.leader is False for u in self.units)
        return not (sick or self.troubled_nodes or self.troubled_devices_count or self.identities_late)


def tally(
    cloud: Sequence[UnitHealth],
    nodes: Iterable[tuple[str, bool, Presence | None]],
    devices: Iterable[tuple[str, TwinRecord | None]],
    now: int,
    fresh_ms: int,
) -> Tally:
    """`nodes` are (name, Ready in Kubernetes, presence), `devices` (namespace/name, live twin)."""
    known, presences = [], []
    for name, ready, presence in nodes:
        known.append(node_state(name, ready, presence, now, fresh_ms))
        presences += [presence] if presence else []
    states, troubled = Counter[str](), list[str]()
    for device, record in devices:
        states[_state(record)] += 1
        troubled += [device] if _ill(record) else []
    lasting = identities([("", cloud), *((p.node, p.units) for p in presences)], now)
    return Tally(
        units=[unit_state(unit, cloud) for unit in CLOUD_UNITS],
        nodes=dict(Counter(node.state for node in known)),
        troubled_nodes=[node for node in known if node.state != "ready"][:MOST_SHOWN],
        devices=dict(sorted(states.items())),
        troubled_devices=troubled[:MOST_SHOWN],
        troubled_devices_count=len(troubled),
        waiting=sum(p.pending for p in presences),
        versions=_versions(cloud, presences),
        identities=lasting[:MOST_SHOWN],
        identities_count=len(lasting),
        identities_late=sum(one.late for one in lasting),
    )


def identities(heard: Iterable[tuple[str, Iterable[UnitHealth]]], now: int) -> list[Lasting]:
    """Of (node, its units): those that are late first, then those that end first."""
    found: dict[tuple[str, int, bool], dict[str, None]] = {}
    for node, units in heard:
        for unit in units:
            for name, what in ((unit.unit, "identity"), (LINK, "link")):
                until = millis(unit.facts.get(f"{what}_until"))
                if until and not unit.silent_since:
                    late = unit.facts.get(f"{what}_late") == "yes" or until <= now
                    found.setdefault((node, until, late), {})[name] = None
    lasting = [Lasting(node, ", ".join(units), until, late) for (node, until, late), units in found.items()]
    return sorted(lasting, key=lambda one: (not one.late, one.until, one.node))


def unit_state(unit: str, cloud: Iterable[UnitHealth]) -> UnitState:
    """One unit of the cloud. One that was not heard is wrong: this CloudHub hears them every few seconds."""
    found = [one for one in cloud if one.unit == unit]
    alive = [one for one in found if not one.silent_since]
    leader = any(one.facts.get("leads") == "yes" for one in alive) if unit in LED else None
    wrong = by_unit(found).get(unit, "not heard yet")
    return UnitState(unit, len(alive), leader, "" if wrong == "ok" else wrong)


def node_state(name: str, ready: bool, presence: Presence | None, now: int, fresh_ms: int) -> NodeState:
    """Away if it is not heard; degraded if a unit of it is not well, or Kubernetes does not say Ready."""
    if presence is None or now - presence.at > fresh_ms:
        return NodeState(name, "away", presence.at if presence else 0, "not heard")
    wrong = [f"{unit}: {text}" for unit, text in sorted(presence.health.items()) if text != "ok"]
    wrong += [] if ready else ["not Ready in Kubernetes"]
    return NodeState(name, "degraded" if wrong else "ready", presence.at, "; ".join(wrong))


def _state(record: TwinRecord | None) -> str:
    return "none" if record is None else record.state.state or "unknown"


def _ill(record: TwinRecord | None) -> bool:
    return record is not None and bool(record.state.state in ILL or record.state.problems)


def _versions(cloud: Iterable[UnitHealth], presences: Iterable[Presence]) -> dict[str, list[str]]:
    found: dict[str, dict[str, None]] = {}
    for version, who in [*((u.version, u.unit) for u in cloud), *((p.version, p.node) for p in presences)]:
        if version:
            found.setdefault(version, {})[who] = None
    return {version: list(who)[:MOST_NAMED] for version, who in sorted(found.items())}
