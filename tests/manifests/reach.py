"""Which pod reaches which port of which pod, as the NetworkPolicies of an overlay say: a small reader of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rendering import Json, Manifests, Pod

OUTSIDE = "somewhere"


@dataclass(frozen=True)
class End:
    """Who speaks or is spoken to: a pod, or what is no pod (`address`: of the outside)."""

    namespace: str
    labels: Json = field(default_factory=dict)
    namespace_labels: Json = field(default_factory=dict)
    address: bool = False


@dataclass(frozen=True)
class Reach:
    """The policies of one overlay."""

    manifests: Manifests

    def end(self, pod: Pod) -> End:
        return End(pod.namespace, pod.labels, {"kubernetes.io/metadata.name": pod.namespace})

    def ports(self, source: End, target: Pod) -> set[str]:
        """The named ports of `target` on which both sides let it pass."""
        named = {p["name"]: p["containerPort"] for c in target.containers for p in c.get("ports", [])}
        into = self._allowed(self.end(target), "ingress", "from", source, named)
        out = self._allowed(source, "egress", "to", self.end(target), named)
        return into & out

    def out(self, source: Pod) -> set[str]:
        """The ports on which a pod may speak to what is no pod, as text."""
        rules = self._rules(self.end(source), "egress") or []
        free = [r for r in rules if not r.get("to") or any("ipBlock" in peer for peer in r["to"])]
        return {str(p["port"]) for r in free for p in r["ports"]}

    def _allowed(self, of: End, way: str, key: str, other: End, named: dict[str, int]) -> set[str]:
        rules = self._rules(of, way)
        if rules is None:
            return set(named)
        passing = [r for r in rules if not r.get(key) or any(_is(peer, of, other) for peer in r[key])]
        wanted = {p["port"] for r in passing for p in r["ports"]}
        return {name for name, number in named.items() if {name, number} & wanted}

    def _rules(self, of: End, way: str) -> list[Json] | None:
        """All rules that concern one end; None if no policy does, and so all is let through."""
        policies = [p["spec"] for p in self._concerning(of) if way.capitalize() in p["spec"]["policyTypes"]]
        return [rule for policy in policies for rule in policy.get(way, [])] if policies else None

    def _concerning(self, of: End) -> Iterable[Json]:
        for policy in self.manifests.of("NetworkPolicy"):
            selector = policy["spec"]["podSelector"].get("matchLabels", {}).items()
            if policy["metadata"]["namespace"] == of.namespace and selector <= of.labels.items():
                yield policy


def _is(peer: Json, of: End, other: End) -> bool:
    if "ipBlock" in peer:
        return other.address
    if other.address:
        return False
    space = peer.get("namespaceSelector")
    same = other.namespace == of.namespace
    placed = same if space is None else space.get("matchLabels", {}).items() <= other.namespace_labels.items()
    return placed and peer.get("podSelector", {}).get("matchLabels", {}).items() <= other.labels.items()
