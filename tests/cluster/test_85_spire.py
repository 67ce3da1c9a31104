"""Claim: nobody at NATS has a password; SPIRE's agent beside an edge gets that node's certificate and no other; without
SPIRE, its agents and one spire_integration, devices go on."""

import contextlib
import json

import kubectl as k
import pytest
import yaml
from installation import K8S, WORKLOADS, Installation, rolled_out, until_ready
from world import until, until_shown

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
BEGINS_SECONDS = 60.0
LIGHT = K8S / "components" / "light" / "device.yaml"
FETCH = ("spire-agent", "api", "fetch", "x509", "-socketPath", "/run/spire/agent/api.sock", "-timeout", "5s")
SERVER = ("exec", "-n", k.CLOUD, "spire-server-0", "--", "spire-server")
SOCKET = ("-socketPath", "/run/spire/server/api.sock")
TD = "spiffe://canopy.test"
STRANGER, EDGE_USER = 4711, 65532
END_THE_LEAF = """
import contextlib, os, pathlib, signal
found = []
for process in pathlib.Path("/proc").glob("[0-9]*"):
    with contextlib.suppress(OSError):
        if (process / "comm").read_text().strip() == "nats-server":
            found.append(int(process.name))
for pid in found:
    os.kill(pid, signal.SIGTERM)
"""


async def test_no_server_of_nats_knows_a_password_but_that_of_the_routes(canopy: Installation) -> None:
    for namespace, pod, container in ((k.CLOUD, "nats-0", "nats"), (k.EDGE, await _pod("edge", k.EDGE), "leaf")):
        said = await k.inside(pod, "import os; print(*os.environ)", namespace=namespace, container=container)
        assert {word for word in said.split() if "PASSWORD" in word} <= {"CANOPY_PASSWORD_ROUTE"}, pod


async def test_the_agent_beside_an_edge_gets_that_node_s_certificate_and_nothing_of_the_cloud(
    canopy: Installation,
) -> None:
    """A stranger asks it, for whom two entries of this story are: one of an edge's agent, one of the cloud's. And the
    edge's user does."""
    node = await canopy.node()
    made = {f"{TD}/story/edge": f"{TD}/edge-agents/{node}", f"{TD}/story/cloud": f"{TD}/cloud-agents"}
    for id, parent in made.items():
        words = ("-spiffeID", id, "-parentID", parent, "-selector", f"unix:uid:{STRANGER}")
        await k.kubectl(*SERVER, "entry", "create", *SOCKET, *words)
    await k.apply(*(_asking(user, node) for user in (STRANGER, EDGE_USER)))
    try:
        for user, wanted in ((STRANGER, f"{TD}/story/edge"), (EDGE_USER, f"{TD}/node/{node}")):
            await k.kubectl("wait", "--for=condition=Ready", f"pod/asking-{user}", "--timeout=60s", seconds=90)
            found = await until(f"the agent has something for {user}", lambda user=user: _given(user), 60)
            assert found == {wanted}
    finally:
        await k.kubectl("delete", "pods", *(f"asking-{user}" for user in (STRANGER, EDGE_USER)), "--wait=false")
        for id in made:
            entry = await k.kubectl(*SERVER, "entry", "show", *SOCKET, "-spiffeID", id, "-output", "json")
            for one in json.loads(entry)["entries"]:
                await k.kubectl(*SERVER, "entry", "delete", *SOCKET, "-entryID", one["id"])


async def _given(user: int) -> set[str]:
    """The names in what the agent hands out; it refuses whom it has nothing for."""
    said = await k.kubectl("exec", f"asking-{user}", "--", *FETCH)
    return {line.split()[-1] for line in said.splitlines() if line.startswith("SPIFFE ID:")}


def _asking(user: int, node: str) -> k.Json:
    """A pod of somebody who has the folder of the agent's socket, and so the node."""
    folder = ("/run/canopy-spire/edge", "/run/spire/agent")
    return k.sleeper(f"asking-{user}", node, "canopy/spire-agent:dev", user, folder)


async def test_without_spire_and_without_one_spire_integration_devices_go_on(canopy: Installation) -> None:
    await until_ready(k.CLOUD, "spire-integration", 2)
    model, device = yaml.safe_load_all(LIGHT.read_text().replace("NODE", await canopy.node()))
    await k.apply(model, device)
    await _flip("true")
    await k.kubectl("scale", "-n", k.CLOUD, "statefulset/spire-server", "--replicas=0")
    await k.kubectl("wait", "-n", k.CLOUD, "--for=delete", "pod/spire-server-0", "--timeout=60s", seconds=90)
    try:
        await k.kubectl("delete", "pod", "-n", k.AGENTS, "--all", "--wait=false")
        one = await _pod("spire-integration", k.CLOUD)
        await k.kubectl("delete", "pod", "-n", k.CLOUD, one, "--wait=false")
        await _flip("false")
        await _leaf_begins_anew(await _pod("edge", k.EDGE))
        await _flip("true")  # the node's link came anew, by the certificate that it has
    finally:
        await k.kubectl("scale", "-n", k.CLOUD, "statefulset/spire-server", "--replicas=1")
    await rolled_out(k.CLOUD, "statefulset/spire-server")
    await k.kubectl("delete", "pod", "-n", k.AGENTS, "--all", "--wait=false")  # they would look more and more seldom
    for namespace, name in WORKLOADS:
        await rolled_out(namespace, name)
    await _flip("false")


async def _leaf_begins_anew(pod: str) -> None:
    """Its server is told to end. The command inside may end with it before it can say so."""
    before = await _leaf_begun(pod)
    with contextlib.suppress(k.Refused):
        await k.inside(pod, END_THE_LEAF, namespace=k.EDGE, container="leaf")

    async def begun() -> bool:
        return await _leaf_begun(pod) > before

    await until("the leaf begins anew", begun, BEGINS_SECONDS)


async def _leaf_begun(pod: str) -> int:
    """How often, but for the first time."""
    status = (await k.got("pod", pod, "-n", k.EDGE))["status"]
    said = [*status.get("containerStatuses", []), *status.get("initContainerStatuses", [])]
    return next(int(one["restartCount"]) for one in said if one["name"] == "leaf")


async def _flip(value: str) -> None:
    """A wish, and its report in Kubernetes."""
    change = [{"op": "add", "path": "/spec/properties/0/desired", "value": {"value": value}}]
    await k.kubectl("patch", "device", "light", "-n", "default", "--type=json", "-p", json.dumps(change))
    await until_shown("light", {"switch": value})


async def _pod(unit: str, namespace: str) -> str:
    return k.named((await k.pods(f"app.kubernetes.io/name={unit}", namespace))[0])
