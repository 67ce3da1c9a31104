"""The shell: hears nodes, looks at one at a time, writes its Node, status and Lease.

`Listener` runs in every replica, so that a new leader knows who was heard; `NodeWriter` only while it leads.
"""

import logging
from collections.abc import Callable, Sequence

import msgspec

from canopy.bus import Place
from canopy.contracts.wire import Presence
from canopy.edgecontroller import bodies, core
from canopy.edgecontroller.core import Action, Create, Heard, NodeSeen, Plan, Renew, Rules, SetLabels, SetStatus, View
from canopy.kube.api import Kube
from canopy.kube.errors import AlreadyExists, Conflict, KubeError, NotFound, Unavailable
from canopy.kube.resource import LEASES, NODES
from canopy.runtime.clock import Clock
from canopy.runtime.health import Metrics
from canopy.runtime.logs import once_per
from canopy.runtime.worker import Worked

log = logging.getLogger("canopy.edgecontroller")
FORGET_MS = 3_600_000
"""A node without a Node that was silent for so long is forgotten."""
MOST_NODES = 200_000
SAY_AGAIN_SECONDS = 30.0


class Counters:
    """What this unit counts."""

    def __init__(self, metrics: Metrics) -> None:
        prefix = "canopy_edgecontroller_"
        self.heard = metrics.counter(f"{prefix}heard_total", "Words of nodes heard.")
        self.writes = metrics.counter(f"{prefix}writes_total", "Writes to Kubernetes, by what was written.")
        self.conflicts = metrics.counter(f"{prefix}conflicts_total", "Writes that Kubernetes refused as outdated.")
        self.failures = metrics.counter(f"{prefix}failures_total", "Writes that failed otherwise.")
        self.budget_waits = metrics.counter(f"{prefix}budget_waits_total", "Times that only the budget held a write.")
        self.lag = metrics.gauge(f"{prefix}lag_seconds", "For how long the node written last had been dirty.")


class Replica:
    """What this replica knows. `mark` is there while it leads; `listening_since` is None while the hub is away."""

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self._clock, self._counters = clock, counters
        self.heard: dict[str, Heard] = {}
        self.nodes: dict[str, NodeSeen] = {}
        self.synced = False
        self.listening_since: int | None = clock.now_ms()
        self.mark: Callable[[str], None] | None = None

    async def hear(self, presence: Presence, place: Place[Presence]) -> None:
        """The node is the subject's, never the body's. The time is ours: clocks differ."""
        node = place["node"]
        if node not in self.heard and len(self.heard) >= MOST_NODES:
            return
        self._counters.heard.add()
        said = presence if presence.node == node else msgspec.structs.replace(presence, node=node)
        self.heard[node] = Heard(self._clock.now_ms(), said)
        self.touch(node)

    def node(self, name: str, new: NodeSeen | None) -> None:
        """A Node came, changed or went."""
        if new is None:
            self.nodes.pop(name, None)
        else:
            self.nodes[name] = new
        self.touch(name)

    def touch(self, name: str) -> None:
        if self.mark is not None:
            self.mark(name)

    def connected(self, yes: bool) -> None:
        """After the hub was away everyone has to be heard anew before anyone counts as gone."""
        if not yes:
            self.listening_since = None
        elif self.listening_since is None:
            self.listening_since = self._clock.now_ms()

    def forget(self) -> None:
        """Drop nodes that are no Node and were silent for long."""
        oldest = self._clock.now_ms() - FORGET_MS
        for name in [n for n, h in self.heard.items() if h.at < oldest and n not in self.nodes]:
            del self.heard[name]


class NodeWriter:
    """Looks at one node. `renewed` are the renewTimes of the Leases as this leader read or wrote them."""

    def __init__(
        self,
        replica: Replica,
        kube: Kube,
        clock: Clock,
        rules: Rules,
        allowed: tuple[str, ...],
        leads: Callable[[], bool],
        counters: Counters,
    ) -> None:
        self._replica, self._kube, self._clock, self._rules = replica, kube, clock, rules
        self._allowed, self._leads, self._counters = allowed, leads, counters
        self.renewed: dict[str, int] = {}
        self.next_look: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._say = once_per(SAY_AGAIN_SECONDS)

    async def read_leases(self) -> None:
        """Who was seen when, by whoever led before. A time of the future is some other clock's: it counts as now."""
        listed = await self._kube.list(LEASES, bodies.LEASE_NAMESPACE, label_selector=f"{bodies.MANAGED}=true")
        now = self._clock.now_ms()
        self.renewed = {name: min(at, now) for name, at in map(bodies.read_lease, listed.items)}

    def due(self) -> list[str]:
        """Nodes whose silence has now lasted too long, to be looked at."""
        now = self._clock.now_ms()
        found = [name for name, at in self.next_look.items() if at <= now]
        for name in found:
            del self.next_look[name]
        return found

    async def look(self, name: str) -> Worked:
        """All but the Lease: whether a node is there is never said later because many Leases are renewed."""
        node = self._replica.nodes.get(name)
        plan = self._plan(name, node)
        if plan.foreign:
            self._leave_alone(name)
        self.next_look.pop(name, None)
        if plan.next_look is not None:
            self.next_look[name] = plan.next_look
        return await self._do(name, node, [a for a in plan.actions if not isinstance(a, Renew)])

    async def renew(self, name: str) -> Worked:
        """The Lease alone."""
        node = self._replica.nodes.get(name)
        return await self._do(name, node, [a for a in self._plan(name, node).actions if isinstance(a, Renew)])

    async def _do(self, name: str, node: NodeSeen | None, actions: Sequence[Action]) -> Worked:
        try:
            wrote = False
            for action in actions:
                wrote |= self._leads() and await self._act(name, node, action)
            return Worked(wrote=wrote)
        except Conflict:
            self._counters.conflicts.add()
        except KubeError as error:
            return self._failed(name, error)
        return Worked(again=True)

    def _failed(self, name: str, error: KubeError) -> Worked:
        """Said once for all nodes while Kubernetes is away; else of each node."""
        self._counters.failures.add()
        away = isinstance(error, Unavailable)
        if self._say("away" if away else name):
            log.info("node %s: %s; trying on", name, error)
        return Worked(again=True, away=away)

    def _plan(self, name: str, node: NodeSeen | None) -> Plan:
        replica = self._replica
        heard = replica.heard.get(name)
        view = View(heard, node, self.renewed.get(name, 0), replica.listening_since)
        labels = bodies.labels_of(heard.presence, self._allowed) if heard else {}
        kubelet = bodies.kubelet_of(heard.presence if heard else None)
        return core.decide(view, self._clock.now_ms(), self._rules, labels, kubelet)

    def _leave_alone(self, name: str) -> None:
        """Said once."""
        if name in self._replica.heard and name not in self._foreign:
            self._foreign.add(name)
            log.warning("edge node %s joins, but Kubernetes has a Node of that name that is not ours: left alone", name)

    async def _act(self, name: str, node: NodeSeen | None, action: Action) -> bool:
        """True if it was written."""
        if isinstance(action, Create):
            return await self._create(name, action.presence)
        if node is None:
            return False
        match action:
            case SetStatus():
                await self._set_status(node, action)
            case SetLabels(labels):
                await self._kube.patch(NODES, "", name, bodies.labels_patch(labels))
            case Renew(at):
                await self._renew(node, at)
        self._counters.writes.add(what=type(action).__name__)
        return True

    async def _set_status(self, node: NodeSeen, action: SetStatus) -> None:
        body = bodies.status_patch(node, action.ready, action.since, action.presence, self._clock.now_ms())
        await self._kube.patch(NODES, "", node.name, body, subresource="status")
        if node.ready != (bodies.READY if action.ready else bodies.UNKNOWN):
            log.info("node %s is %s", node.name, "Ready" if action.ready else "gone")

    async def _create(self, name: str, presence: Presence) -> bool:
        labels = bodies.labels_of(presence, self._allowed)
        try:
            await self._kube.create(NODES, "", bodies.new_node(presence, labels, self._clock.now_ms()))
        except AlreadyExists:
            if not self._replica.synced:
                raise
            return False  # its informer will say whose it is
        log.info("node %s joined", name)
        self._counters.writes.add(what="Create")
        return True

    async def _renew(self, node: NodeSeen, at: int) -> None:
        try:
            await self._kube.patch(LEASES, bodies.LEASE_NAMESPACE, node.name, bodies.lease_patch(at))
        except NotFound:
            body = bodies.new_lease(node, max(1, self._rules.gone_after_ms // 1000), at)
            await self._kube.create(LEASES, bodies.LEASE_NAMESPACE, body)
        self.renewed[node.name] = at
