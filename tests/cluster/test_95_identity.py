"""Claim: with identities the documented commands lead from nothing to a working system: the restricted profile admits
every pod of the cloud, a device's report reaches Kubernetes and a wish the device with every connection of NATS known
by a certificate, nobody but agents and spire_integration reaches SPIRE, and without SPIRE who is connected goes on."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

import kubectl as k
import pytest
from installation import K8S, ROOT, RUNS_EDGE, Installation, everything, rolled_out
from test_70_policies import TRY, _visitor
from world import until, until_shown

SPIRE_IS_BUILT = not subprocess.run(["bash", ROOT / "tests/spire/build.sh", "--have"], stdout=-1).returncode
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not SPIRE_IS_BUILT, reason="the real SPIRE is not built: bash tests/spire/build.sh, then make images"
    ),
]
OVERLAY, AGENTS = K8S / "overlays" / "ci-identity", "canopy-spire"
WORKLOADS = (
    (k.CLOUD, "statefulset/spire-server"),
    (AGENTS, "daemonset/spire-agent"),
    (k.CLOUD, "statefulset/nats"),
    (k.CLOUD, "deployment/spire-integration"),
    (k.CLOUD, "deployment/cloudhub"),
    (k.CLOUD, "deployment/devicecontroller"),
    (k.CLOUD, "deployment/edgecontroller"),
    (k.EDGE, "daemonset/edge"),
    (k.EDGE, "deployment/light"),
)
READY_SECONDS, SEEN_SECONDS = 240.0, 30.0
SPIRE, JOIN = "spire-server:8081", "spire-integration:8443"
END_THE_LEAF = """
import os, pathlib, signal
for process in pathlib.Path("/proc").glob("[0-9]*"):
    if (process / "comm").read_text().strip() == "nats-server":
        os.kill(int(process.name), signal.SIGTERM)
        print("ended")
"""
LIGHT = K8S / "components" / "light" / "device.yaml"


class Trusted(Installation):
    """The overlay `ci-identity`, in the place of `ci`."""

    async def install(self) -> None:
        node = await self.node()
        await k.kubectl("apply", "-k", str(K8S / "base" / "namespaces"))
        await k.kubectl("apply", "-f", "-", stdin=await self._canopy("secrets"))
        await k.kubectl("label", "node", node, f"{RUNS_EDGE}=true", "--overwrite")
        await k.kubectl("apply", "-f", "-", stdin=await _identity())
        await k.kubectl("apply", "-k", str(OVERLAY))
        await asyncio.gather(*(rolled_out(namespace, name, READY_SECONDS) for namespace, name in WORKLOADS))

    async def uninstall(self) -> None:
        await k.kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", seconds=240)
        await super().uninstall()


async def _identity() -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "deploy/k8s/identity.py"), stdout=-1, stderr=-1
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


@pytest.fixture(scope="module")
def trusted(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trusted]:
    """Installed by the first story, in the place of the one without; gone after the last."""
    one = Trusted(tmp_path_factory.mktemp("trusted"))
    one.figures = installation.figures

    async def begin() -> None:
        await installation.close()
        await one.uninstall()
        one.before = await everything()
        began = time.monotonic()
        await one.install()
        one.figures.append(f"with identities, install to every pod ready: {time.monotonic() - began:.1f} s")
        await k.kubectl("apply", "-f", "-", stdin=LIGHT.read_text().replace("NODE", await one.node()))

    asyncio.run(begin())
    yield one
    asyncio.run(one.uninstall())


async def test_a_report_comes_up_and_a_wish_goes_down_by_certificates_only(trusted: Trusted) -> None:
    await until_shown("light", {"switch": "false"}, SEEN_SECONDS)
    await _flip("true")
    for namespace, workload in ((k.CLOUD, "nats-0"), (k.EDGE, await _edge())):
        container = "nats" if namespace == k.CLOUD else "leaf"
        said = await k.inside(workload, "import os; print(*os.environ)", namespace=namespace, container=container)
        assert {word for word in said.split() if "PASSWORD" in word} <= {"CANOPY_PASSWORD_ROUTE"}


async def test_the_restricted_profile_refuses_nothing_of_the_cloud_with_its_agents_socket(trusted: Trusted) -> None:
    labels = (await k.got("namespace", k.CLOUD))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert [e for e in await k.items("events", "-n", k.CLOUD) if "PodSecurity" in e.get("message", "")] == []


@pytest.fixture
async def strangers(trusted: Trusted) -> AsyncIterator[dict[str, tuple[str, str]]]:
    """A pod of nobody beside the units, and one elsewhere."""
    homes = {"intruder": k.CLOUD, "stranger": "default"}
    await k.apply(*(_visitor(name, home) for name, home in homes.items()))
    for name, home in homes.items():
        await k.kubectl("wait", "-n", home, "--for=condition=Ready", f"pod/{name}", "--timeout=60s", seconds=65)
    yield {name: (home, name) for name, home in homes.items()}
    for name, home in homes.items():
        await k.kubectl("delete", "pod", "-n", home, name, "--wait=false")


async def test_nobody_but_agents_and_spire_integration_reaches_spire(
    trusted: Trusted, strangers: dict[str, tuple[str, str]]
) -> None:
    names = "app.kubernetes.io/name="
    found = {unit: (await k.pods(names + unit))[0] for unit in ("spire-server", "spire-integration", "cloudhub")}
    ports = {SPIRE: found["spire-server"], JOIN: found["spire-integration"]}
    words = [f"{port}={pod['status']['podIP']}" for port, pod in ports.items()]
    may = {"cloudhub": set(), "intruder": set(), "stranger": {JOIN}, "spire-integration": {SPIRE}}
    at = {unit: (k.CLOUD, k.named(found[unit])) for unit in ("cloudhub", "spire-integration")} | strangers

    async def as_said() -> bool:
        wrong.clear()
        for name, (namespace, pod) in at.items():
            own = [word for word in words if not (name == "spire-integration" and word.startswith(JOIN))]
            container = name if namespace == k.CLOUD and name != "intruder" else ""
            reached = set(json.loads(await k.inside(pod, TRY, *own, namespace=namespace, container=container)))
            if reached != may[name]:
                wrong.append(f"{name} reaches {sorted(reached)}, and should {sorted(may[name])}")
        return not wrong

    wrong: list[str] = []
    try:
        await until("the policies are kept", as_said, 30)
    except AssertionError:
        raise AssertionError("; ".join(wrong)) from None


async def test_without_spire_and_without_one_spire_integration_devices_go_on(trusted: Trusted) -> None:
    await k.kubectl("scale", "-n", k.CLOUD, "statefulset/spire-server", "--replicas=0")
    await k.kubectl("wait", "-n", k.CLOUD, "--for=delete", "pod/spire-server-0", "--timeout=60s", seconds=65)
    try:
        await k.kubectl("delete", "pod", "-n", AGENTS, "-l", "app.kubernetes.io/name=spire-agent", "--wait=false")
        one = (await k.pods("app.kubernetes.io/name=spire-integration"))[0]
        await k.kubectl("delete", "pod", "-n", k.CLOUD, k.named(one), "--wait=false")
        await _flip("false")
        await k.inside(await _edge(), END_THE_LEAF, namespace=k.EDGE, container="leaf")
        await _flip("true")  # the node's link came anew, by the certificate that it has
    finally:
        await k.kubectl("scale", "-n", k.CLOUD, "statefulset/spire-server", "--replicas=1")
    for namespace, name in WORKLOADS:
        await rolled_out(namespace, name, READY_SECONDS)
    await _flip("false")


async def test_a_unit_made_anew_is_itself_again(trusted: Trusted) -> None:
    await k.kubectl("rollout", "restart", "-n", k.CLOUD, "deployment/cloudhub", "deployment/devicecontroller")
    for name in ("deployment/cloudhub", "deployment/devicecontroller"):
        await rolled_out(k.CLOUD, name)
    await _flip("true")


async def _flip(value: str) -> None:
    """A wish, and its report in Kubernetes."""
    change = [{"op": "add", "path": "/spec/properties/0/desired", "value": {"value": value}}]
    await k.kubectl("patch", "device", "light", "-n", "default", "--type=json", "-p", json.dumps(change))
    await until_shown("light", {"switch": value})


async def _edge() -> str:
    return k.named((await k.pods("app.kubernetes.io/name=edge", k.EDGE))[0])
