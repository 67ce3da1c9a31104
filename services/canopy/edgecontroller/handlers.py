"""The shell: looks at one node at a time, writes its Node, status and Lease; only while this replica leads (`lead`)."""

import logging
from collections.abc import Callable, Sequence

from canopy.contracts.devices import MANAGED
from canopy.contracts.wire import Presence
from canopy.edgecontroller import bodies, core
from canopy.edgecontroller.core import Action, Create, NodeSeen, Plan, Renew, Rules, SetLabels, SetStatus, View
from canopy.edgecontroller.counts import Counts
from canopy.edgecontroller.replica import Replica
from canopy.kube.api import Kube
from canopy.kube.errors import AlreadyExists, Conflict, KubeError, NotFound, Unavailable
from canopy.kube.resource import LEASES, NODES
from canopy.runtime.clock import Clock
from canopy.runtime.worker import Failures, Worked

log = logging.getLogger("canopy.edgecontroller")


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
        counts: Counts,
    ) -> None:
        self._replica, self._kube, self._clock, self._rules = replica, kube, clock, rules
        self._allowed, self._leads, self._counts = allowed, leads, counts
        self.renewed: dict[str, int] = {}
        self.next_look: dict[str, int] = {}
        self._foreign: set[str] = set()
        self._failures = Failures(counts.failures, (Unavailable,))

    async def read_leases(self) -> None:
        """Who was seen when, by whoever led before. A time of the future is some other clock's: it counts as now."""
        listed = await self._kube.list(LEASES, bodies.LEASE_NAMESPACE, label_selector=f"{MANAGED}=true")
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
            self._counts.conflicts.add()
        except KubeError as error:
            return self._failures.worked(f"node {name}", error)
        return Worked(again=True)

    def _plan(self, name: str, node: NodeSeen | None) -> Plan:
        replica = self._replica
        heard = replica.heard.get(name)
        view = View(heard, node, self.renewed.get(name, 0), replica.listening_since)
        labels = bodies.labels_of(heard.presence, self._allowed) if heard else {}
        kubelet = bodies.kubelet_of(heard.presence if heard else None)
        health = bodies.health_of(heard.presence if heard else None)
        return core.decide(view, self._clock.now_ms(), self._rules, labels, kubelet, health)

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
        self._counts.writes.add(what=type(action).__name__)
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
        self.renewed.pop(name, None)  # its Lease goes with the Node that was there before
        log.info("node %s joined", name)
        self._counts.writes.add(what="Create")
        return True

    async def _renew(self, node: NodeSeen, at: int) -> None:
        try:
            await self._kube.patch(LEASES, bodies.LEASE_NAMESPACE, node.name, bodies.lease_patch(at))
        except NotFound:
            body = bodies.new_lease(node, max(1, self._rules.gone_after_ms // 1000), at)
            await self._kube.create(LEASES, bodies.LEASE_NAMESPACE, body)
        self.renewed[node.name] = at
