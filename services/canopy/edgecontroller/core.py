"""When a node counts as there, and what to write about it: its Node, its status, its Lease. Pure; times in ms.

`handlers.NodeWriter` asks `decide` whenever a node was heard, changed in Kubernetes, or its next look is due.
"""

from dataclasses import dataclass

from canopy.contracts.wire import Presence


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that decide, in ms."""

    gone_after_ms: int = 40_000
    renew_ms: int = 10_000
    refresh_ms: int = 300_000
    listen_first_ms: int = 25_000


Healthy = tuple[str, str]
"""Status and message of the condition EdgeHealthy."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A node's last word: when it came here, and what it said of itself."""

    at: int
    presence: Presence


@dataclass(frozen=True, slots=True)
class NodeSeen:
    """A Node in Kubernetes. `ready` is the status of its Ready condition, empty if it has none."""

    name: str
    uid: str
    managed: bool
    ready: str
    ready_since: int
    heartbeat: int
    kubelet: str
    labels: dict[str, str]
    resource_version: str
    others: tuple[bytes, ...] = ()
    """Conditions that are not ours, as JSON."""
    health: Healthy = ("", "")
    health_since: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """What is known of one node. `renewed` is its Lease's renewTime (0: none known); `listening_since` is when this
    replica began to hear presences (None: it hears nothing now)."""

    heard: Heard | None
    node: NodeSeen | None
    renewed: int
    listening_since: int | None

    @property
    def last_seen(self) -> int:
        return max(self.heard.at if self.heard else 0, self.renewed)


@dataclass(frozen=True, slots=True)
class Create:
    """Make the Node, Ready."""

    presence: Presence


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Say whether the node is there, and what it says of itself. `since`: when it came, or was last heard."""

    ready: bool
    since: int
    presence: Presence | None


@dataclass(frozen=True, slots=True)
class SetLabels:
    """Labels that the Node lacks or has with another value."""

    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class Renew:
    """Write `at` as the Lease's renewTime."""

    at: int


Action = Create | SetStatus | SetLabels | Renew


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do now, in this order, and when to look at the node again though nothing is heard (None: never)."""

    actions: tuple[Action, ...] = ()
    next_look: int | None = None
    foreign: bool = False
    """The Node of that name is not ours: an existing kubelet's."""


_Said = tuple[str, Healthy | None]
"""The software's name, and the health, as the node says them."""


def decide(
    view: View, now: int, rules: Rules, labels: dict[str, str], kubelet: str, health: Healthy | None = None
) -> Plan:
    """`labels`, `kubelet` and `health` are what the Node should have, from what the node said last (empty: nothing)."""
    if view.node is None:
        came = view.heard is not None and now - view.heard.at < rules.gone_after_ms
        return Plan((Create(view.heard.presence),)) if view.heard and came else Plan()
    if not view.node.managed:
        return Plan(foreign=True)
    return _of_ours(view, view.node, now, rules, labels, (kubelet, health))


def _of_ours(view: View, node: NodeSeen, now: int, rules: Rules, labels: dict[str, str], said: _Said) -> Plan:
    here = now - view.last_seen < rules.gone_after_ms
    actions: list[Action] = []
    if here or _may_judge(view, now, rules):
        actions += _status(view, node, now, rules, here, said)
    missing = {k: v for k, v in labels.items() if node.labels.get(k) != v}
    if missing:
        actions.append(SetLabels(missing))
    if view.heard is not None and (not view.renewed or view.heard.at - view.renewed >= rules.renew_ms):
        actions.append(Renew(view.heard.at))
    return Plan(tuple(actions), _next_look(view, now, rules, here))


def _may_judge(view: View, now: int, rules: Rules) -> bool:
    """Whoever has just begun to listen has not had the chance to hear a node, and says of none that it is gone."""
    return view.listening_since is not None and now - view.listening_since >= rules.listen_first_ms


def _status(view: View, node: NodeSeen, now: int, rules: Rules, here: bool, said: _Said) -> list[Action]:
    kubelet, health = said
    presence = view.heard.presence if view.heard else None
    turned = node.ready != ("True" if here else "Unknown")
    stale = now - node.heartbeat >= rules.refresh_ms and here
    renamed = bool(kubelet) and kubelet != node.kubelet
    ails = here and health is not None and health != node.health
    return [SetStatus(here, view.last_seen, presence)] if turned or stale or renamed or ails else []


def _next_look(view: View, now: int, rules: Rules, here: bool) -> int | None:
    """When silence will have lasted too long; a node that is gone is looked at when it is heard."""
    if here:
        return view.last_seen + rules.gone_after_ms
    if view.listening_since is None or _may_judge(view, now, rules):
        return None
    return view.listening_since + rules.listen_first_ms
