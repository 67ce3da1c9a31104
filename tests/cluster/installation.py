"""Installing the overlay `ci` and removing it, command by command as docs/deploy-on-kubernetes.md says."""

import asyncio
from pathlib import Path

import kubectl as k
from credentials import from_pod, remove_pod
from outside import HUB_NAME, NODE, Outside, command
from world import Edge, until

ROOT = Path(__file__).parents[2]
K8S = ROOT / "deploy" / "k8s"
OVERLAY = K8S / "overlays" / "ci"
WORKLOADS = (
    (k.CLOUD, "statefulset/spire-server"),
    (k.AGENTS, "daemonset/spire-agent"),
    (k.AGENTS, "daemonset/spire-agent-edge"),
    (k.CLOUD, "deployment/spire-integration"),
    (k.CLOUD, "statefulset/nats"),
    (k.CLOUD, "statefulset/redis"),
    (k.CLOUD, "deployment/cloudhub"),
    (k.CLOUD, "deployment/devicecontroller"),
    (k.CLOUD, "deployment/edgecontroller"),
    (k.EDGE, "daemonset/edge"),
    (k.EDGE, "deployment/light"),
)
READY_SECONDS = 400.0
LEAF_PORT, API_PORT, JOIN_PORT, MQTT_PORT = 30722, 30880, 30843, 8883
RUNS_EDGE = "node.canopy.dev/runs-edge"
FOLDERS = ("/var/lib/canopy", "/var/lib/canopy-ci", "/run/canopy-spire")
OPERATOR = "canopy-operator"
"""An account of Kubernetes that may make and delete Nodes: who may say what joins the fleet."""
HOLDING = ("/var/lib", "/run")
PASSING = ("events", "endpoints", "endpointslices", "leases", "componentstatuses", "podmetrics", "nodemetrics", "pods")
"""Kinds that come and go by themselves; pods are seen by what owns them, and in our namespaces."""


class Installation:
    """The overlay in the cluster that KUBECONFIG names, and the edge outside. `directory` keeps that edge's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.figures: list[str] = []
        self.before: set[str] = set()
        self._outside: Outside | None = None
        self._ready = False

    # --- coming -------------------------------------------------------------------------------------------------------
    async def ensure(self) -> None:
        """Installed and ready, with both edges."""
        if not self._ready:
            if not await self._is_there():
                await self.install()
            await self.rolled_out()
            self._ready = True
        await (await self.joined()).start()

    async def _is_there(self) -> bool:
        return bool(await k.items("deployments", "-n", k.CLOUD)) if await _exists("namespace", k.CLOUD) else False

    async def install(self) -> None:
        """Namespaces, what `canopy secrets` makes, the overlay."""
        await k.kubectl("apply", "-k", str(K8S / "base" / "namespaces"))
        await k.kubectl("label", "node", await self.node(), f"{RUNS_EDGE}=true", "--overwrite")
        code, made = await command("secrets", "--hub-names", HUB_NAME)
        assert code == 0, made
        await k.kubectl("apply", "-f", "-", stdin=made)
        await k.kubectl("apply", "-k", str(OVERLAY))

    async def rolled_out(self, seconds: float = READY_SECONDS) -> None:
        """Wait for every workload."""
        await asyncio.gather(*(rolled_out(namespace, name, seconds) for namespace, name in WORKLOADS))

    async def node(self) -> str:
        """The node on which the DaemonSet's edge runs: the first that is a kubelet's."""
        found = await k.items("nodes", "-l", "node.canopy.dev/managed!=true")
        return k.named(found[0])

    async def address(self) -> str:
        """Where ports of that node are."""
        addresses = (await k.got("node", await self.node()))["status"]["addresses"]
        return next(str(a["address"]) for a in addresses if a["type"] == "InternalIP")

    # --- edges --------------------------------------------------------------------------------------------------------
    async def pod_edge(self) -> Edge:
        """The DaemonSet's."""
        node = await self.node()
        return Edge(node, await self.address(), MQTT_PORT, from_pod(node))

    async def outside(self) -> Outside:
        """A machine that has not joined, or that has."""
        if self._outside is None:
            self._outside = Outside(self.directory / NODE, await self.address(), JOIN_PORT, LEAF_PORT)
        return self._outside

    async def joined(self) -> Outside:
        """The same, with a token if it has not joined yet."""
        outside = await self.outside()
        if outside.edge is None:
            code, said = await outside.join(await self.token(NODE))
            assert code == 0, said
        return outside

    async def edges(self) -> tuple[Edge, Edge]:
        """Both, running."""
        return await self.pod_edge(), await (await self.joined()).start()

    async def token(self, node: str) -> str:
        """By which one machine may join as `node`."""
        return (await self.fleet("node", "token", node, "--quiet")).strip()

    async def fleet(self, *words: str) -> str:
        """What the command line says that asks the fleet API, as the operator's account."""
        if not await _exists("serviceaccount", OPERATOR):
            await k.kubectl("create", "serviceaccount", OPERATOR)
            rights = ("--verb=get,list,create,delete", "--resource=nodes,devices.devices.kubeedge.io")
            await k.kubectl("create", "clusterrole", OPERATOR, *rights)
            bound = (f"--clusterrole={OPERATOR}", f"--serviceaccount=default:{OPERATOR}")
            await k.kubectl("create", "clusterrolebinding", OPERATOR, *bound)
        token = (await k.kubectl("create", "token", OPERATOR)).strip()
        api = ("--api-url", f"http://{await self.address()}:{API_PORT}", "--api-token", token)

        async def said() -> str:
            code, text = await command(*words, *api)
            if code:
                raise k.Refused(text)
            return text

        found: str = await until(f"canopy {' '.join(words)}", said, 30)
        return found

    # --- going --------------------------------------------------------------------------------------------------------
    async def uninstall(self) -> None:
        """As the documentation says; the folders of the nodes too."""
        if self._outside is not None:
            await self._outside.stop()
        if await _exists("crd", "devices.devices.kubeedge.io"):
            await k.kubectl("delete", "devices,devicemodels,devicestatuses", "-A", "--all", seconds=k.END_SECONDS)
        await remove_pod()
        await k.kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", seconds=240)
        await k.kubectl("delete", "nodes", "-l", "node.canopy.dev/managed=true")
        for kind in ("clusterrolebinding", "clusterrole", "serviceaccount"):
            await k.kubectl("delete", kind, OPERATOR, "--ignore-not-found")
        await k.kubectl("label", "node", await self.node(), f"{RUNS_EDGE}-")
        await _remove_folders(await self.node())
        self._outside, self._ready = None, False

    async def close(self) -> None:
        """End the edge outside; the cluster's part stays until `uninstall`."""
        if self._outside is not None:
            await self._outside.stop()


async def rolled_out(namespace: str, name: str, seconds: float = READY_SECONDS) -> None:
    """Wait until the workload's pods are all new and ready."""
    words = ("rollout", "status", "-n", namespace, name, f"--timeout={seconds:g}s")
    await k.kubectl(*words, seconds=seconds + 30)


async def ready_pods(namespace: str, unit: str) -> list[str]:
    """Those that are not on their way out: a workload's status still counts one that has just been told to go."""
    return [k.named(pod) for pod in await k.pods(f"app.kubernetes.io/name={unit}", namespace) if k.ready(pod)]


async def until_ready(namespace: str, unit: str, pods: int, seconds: float = READY_SECONDS) -> None:
    """Wait until so many pods of the unit are ready."""

    async def there() -> bool:
        return len(await ready_pods(namespace, unit)) >= pods

    await until(f"{pods} pods of {unit} are ready", there, seconds)


async def everything() -> set[str]:
    """Every object of the cluster: `kind namespace/name`."""
    kinds = (await k.kubectl("api-resources", "--verbs=list", "-o", "name")).split()
    wanted = ",".join(kind for kind in kinds if kind.partition(".")[0] not in PASSING)
    columns = "custom-columns=K:.kind,S:.metadata.namespace,N:.metadata.name"
    lines = (await k.kubectl("get", wanted, "-A", "--no-headers", "-o", columns)).splitlines()
    return {" ".join(line.split()) for line in lines if line.strip()}


async def _exists(kind: str, name: str) -> bool:
    return bool((await k.kubectl("get", kind, name, "--ignore-not-found", "-o", "name")).strip())


async def _remove_folders(node: str) -> None:
    """By a pod on the node, as `rm -r` there would."""
    program = "import shutil, sys; [shutil.rmtree('/host' + f, ignore_errors=True) for f in sys.argv[1:]]"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "canopy-folders", "namespace": "default"},
        "spec": {
            "nodeName": node,
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "folders",
                    "image": "canopy/cli:dev",
                    "imagePullPolicy": "Never",
                    "command": ["python3", "-c", program, *FOLDERS],
                    "securityContext": {"runAsUser": 0},
                    "volumeMounts": [{"name": f[1:4], "mountPath": f"/host{f}"} for f in HOLDING],
                }
            ],
            "volumes": [{"name": f[1:4], "hostPath": {"path": f}} for f in HOLDING],
        },
    }
    await k.kubectl("delete", "pod", "canopy-folders", "--ignore-not-found")  # of a run that was ended
    await k.apply(pod)
    words = ("--for=jsonpath={.status.phase}=Succeeded", "pod/canopy-folders", "--timeout=120s")
    await k.kubectl("wait", *words, seconds=k.END_SECONDS)
    await k.kubectl("delete", "pod", "canopy-folders")
