"""Claim: the NetworkPolicies let through what the catalogue and the units' doors say, and nothing else: every pair of a
pod and a port is tried from inside of the pods."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import kubectl as k
import pytest
from installation import Installation
from world import until

from canopy.contracts.roles import CLOUD_UNITS

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

KUBERNETES, LEAF, API, MQTT = "kubernetes:443", "nats:7422", "cloudhub:8080", "edge:8883"
SPIRE, JOIN, KUBELET = "spire-server:8081", "spire-integration:8443", "node:10250"
HEALTH = {f"{unit}:8081" for unit in (*CLOUD_UNITS, "spire-integration", "edge")} | {"nats:8222"}
EVERYONE = {LEAF, API, MQTT, JOIN}
"""Each asks for a certificate or a token."""

MAY: dict[str, set[str]] = {
    **{unit: {"nats:4222", KUBERNETES} for unit in CLOUD_UNITS},
    "spire-integration": {"nats:4222", SPIRE},
    "spire-server": {KUBERNETES},
    "spire-agent": {SPIRE, KUBELET},
    "spire-agent-edge": {SPIRE},
    "nats": {"nats:6222"},
    "redis": set(),
    "edge": {LEAF, "light:5020"},
    "light": set(),
    "stranger": EVERYONE | {KUBERNETES, KUBELET},
    "monitor": EVERYONE | {KUBERNETES, KUBELET} | HEALTH,
    "intruder": set(),
}
MAY["cloudhub"] |= {"redis:6379"}

TRY = """
import asyncio, json, sys
async def one(name, host):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, int(name.rpartition(":")[2])), 3)
        writer.close()
        return name
    except OSError:
        return None
async def all():
    return await asyncio.gather(*(one(*word.split("=")) for word in sys.argv[1:]))
print(json.dumps([name for name in asyncio.run(all()) if name]))
"""
MONITORING = "canopy-monitoring"
KEPT_SECONDS = 90.0
"""A pod just made may wait for its rules, and each look takes some seconds."""


def _visitor(name: str, namespace: str) -> k.Json:
    """A pod with nobody's labels, that the restricted profile admits."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"]},
    }
    image = {"image": "canopy/cli:dev", "imagePullPolicy": "Never", "command": ["sleep", "600"]}
    spec = {
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "containers": [{"name": "visitor", **image, "securityContext": security}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.fixture
async def visitors(canopy: Installation) -> AsyncIterator[dict[str, tuple[str, str, str]]]:
    """Pods of nobody: by name, (namespace, pod, "")."""
    labels = {"canopy.dev/monitoring": "true"}
    await k.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MONITORING, "labels": labels}})
    homes = {"stranger": "default", "monitor": MONITORING, "intruder": k.CLOUD}

    async def account_there() -> str:
        return await k.kubectl("get", "serviceaccount", "default", "-n", MONITORING, "-o", "name")

    await until("the namespace has its account", account_there, 30)
    await k.apply(*(_visitor(name, home) for name, home in homes.items()))
    for name, home in homes.items():
        await k.kubectl("wait", "-n", home, "--for=condition=Ready", f"pod/{name}", "--timeout=60s", seconds=90)
    yield {name: (home, name, "") for name, home in homes.items()}
    for name, home in homes.items():
        await k.kubectl("delete", "pod", "-n", home, name, "--wait=false")
    await k.kubectl("delete", "namespace", MONITORING, seconds=k.END_SECONDS)


async def test_every_pod_reaches_what_it_may_and_nothing_else(
    canopy: Installation, visitors: dict[str, tuple[str, str, str]]
) -> None:
    async def as_said() -> bool:
        """A pod may come anew between two looks, so each finds out who is where."""
        units = await _units()
        sources = {unit: there[0] for unit, there in units.items()} | visitors
        wrong[:] = [f"{name} is nowhere ready" for name in MAY.keys() - sources.keys()]
        if wrong:
            return False
        assert sources.keys() == MAY.keys()
        targets = await _targets(canopy, units)
        found = await asyncio.gather(*(_reached(at, targets) for at in sources.values()))
        for name, reached in zip(sources, found, strict=True):
            wrong.extend(f"{name} reaches {port}" for port in sorted(reached - MAY[name]))
            wrong.extend(f"{name} does not reach {port}" for port in sorted(MAY[name] - reached))
        return not wrong

    wrong: list[str] = []
    try:
        await until("the policies are kept", as_said, KEPT_SECONDS)
    except AssertionError as e:
        raise AssertionError("; ".join(wrong) or str(e)) from None
    canopy.figures.append(f"network policies: {len(MAY)} pods x {len(set().union(*MAY.values()))} ports as said")


async def _units() -> dict[str, list[tuple[str, str, str]]]:
    """The pods of each unit: (namespace, pod, address)."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for namespace in (k.AGENTS, k.CLOUD, k.EDGE):
        for pod in await k.pods("app.kubernetes.io/name", namespace):
            if k.ready(pod):
                found.setdefault(k.unit_of(pod), []).append((namespace, k.named(pod), pod["status"]["podIP"]))
    return found


async def _targets(canopy: Installation, units: Mapping[str, list[tuple[str, str, str]]]) -> dict[str, str]:
    """Where each port is that somebody may reach; of a unit's pods the last, while the first is asked to try."""
    address = {unit: there[-1][2] for unit, there in units.items()}
    address["kubernetes"] = (await k.got("service", "kubernetes"))["spec"]["clusterIP"]
    address["node"] = await canopy.address()
    ports = set[str]().union(*MAY.values())
    return {port: address[port.partition(":")[0]] for port in sorted(ports)}


async def _reached(at: tuple[str, str, str], targets: dict[str, str]) -> set[str]:
    namespace, pod, own = at
    words = [f"{name}={host}" for name, host in targets.items() if host != own]  # no policy stands before oneself
    return set(json.loads(await k.inside(pod, TRY, *words, namespace=namespace)))
