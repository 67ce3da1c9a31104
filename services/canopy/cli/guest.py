"""The demo as a guest in a cluster that somebody else owns: what it needs there, what it makes, and that nothing stays.

`show` asks it: `look` before anything is started, `async with` round the story. It touches only what it made itself;
all of that is in a namespace of its own, but for a Node, that Node's Lease, and the CRDs that were missing.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from canopy.cli.failure import NO_CONNECTION, Failure
from canopy.cli.rights import TO_INSTALL, missing
from canopy.contracts import devices
from canopy.contracts.crds import crds
from canopy.contracts.devices import MANAGED
from canopy.edgecontroller.bodies import LEASE_NAMESPACE
from canopy.kube.api import Kube
from canopy.kube.errors import AlreadyExists, KubeError, NotFound, Unauthorized, Unavailable
from canopy.kube.resource import CRDS, LEASES, NAMESPACES, NODES, Resource

SERVED_SECONDS, GONE_SECONDS = 20.0, 60.0
LOOK_SECONDS = 0.2
DEMO_LABEL = "canopy.dev/demo"
PREFIX = "canopy-demo-"

Json = dict[str, Any]


class Guest:
    """`kube` is the cluster, `url` its address, `kubeconfig` what the units get; `options` name it for kubectl."""

    def __init__(self, kube: Kube, url: str, kubeconfig: Path, options: str, say: Callable[[str], None]) -> None:
        self._kube, self.url, self.kubeconfig, self._say = kube, url, kubeconfig, say
        self._kubectl = f"kubectl {options}"
        self.name = PREFIX + secrets.token_hex(3)
        """Of the namespace, and of the Node."""
        self.left: list[str] = []
        """What could not be removed, and why."""
        self.gone_seconds = GONE_SECONDS
        """How long it waits for each thing to be gone."""
        self._lacking: list[Json] = []
        self._made: dict[str, str] = {}
        self._came = False

    @property
    def settings(self) -> dict[str, str]:
        """Of the units: their Leases are in the demo's own namespace, and no other Device is theirs."""
        names = ("DEVICECONTROLLER_NAMESPACE", "DEVICECONTROLLER_LEASE_NAMESPACE", "EDGECONTROLLER_LEASE_NAMESPACE")
        return dict.fromkeys(names, self.name)

    # --- before -------------------------------------------------------------------------------------------------------
    async def look(self) -> None:
        """Whether the story can be told there. Raises Failure, which says what to do."""
        try:
            await self._look()
        except Unavailable as error:
            raise Failure(
                f"the cluster at {self.url} cannot be reached: {error}. Is it up? Try: {self._kubectl} get namespaces",
                NO_CONNECTION,
            ) from None
        except Unauthorized as error:
            raise Failure(
                f"the cluster at {self.url} does not take the credentials of the kubeconfig ({error}): renew them, or "
                "name another context"
            ) from None
        except KubeError as error:
            raise Failure(f"the cluster at {self.url} refuses: {error}. Try: {self._kubectl} get nodes") from None

    async def _look(self) -> None:
        self._refuse(await missing(self._kube))
        self._lacking = [crd for crd in crds() if not await self._has(crd)]
        if self._lacking:
            self._refuse(await missing(self._kube, TO_INSTALL))
        managed = await self._kube.list(NODES, label_selector=f"{MANAGED}=true")
        others = [_meta(body)["name"] for body in managed.items]
        if others:
            raise Failure(
                f"another Canopy has Nodes at {self.url} ({', '.join(others[:5])}), and the demo's controllers would "
                f"call them gone. Name another cluster; what a killed demo left behind ({PREFIX}...) goes with: "
                f"{self._kubectl} delete node,namespace NAME"
            )

    def _refuse(self, lacking: list[str]) -> None:
        if lacking:
            raise Failure(
                f"at {self.url} you may not do what the demo needs: {'; '.join(lacking)}. Name a context that may, or "
                "ask for these rights"
            )

    async def _has(self, crd: Json) -> bool:
        """Raises Failure where it is there, and too old for us."""
        try:
            found = json.loads(await self._kube.get(CRDS, "", crd["metadata"]["name"]))
        except NotFound:
            return False
        versions = [v["name"] for v in found["spec"]["versions"] if v["served"]]
        if devices.VERSION not in versions:
            raise Failure(
                f"{self.url} serves {crd['metadata']['name']} as {', '.join(versions)}, and Canopy needs "
                f"{devices.VERSION}: name another cluster, or upgrade that CRD"
            )
        return True

    def plan(self) -> str:
        """What will be made there, in words; after `look`."""
        names = [crd["metadata"]["name"] for crd in self._lacking]
        things = [
            *([f"CustomResourceDefinitions, which are missing: {', '.join(names)}"] if names else []),
            f"namespace {self.name}, with a DeviceModel, a Device, its DeviceStatus, Leases and Events",
            f"Node {self.name}, where no pod is placed, and its Lease in {LEASE_NAMESPACE}",
        ]
        return "\n  ".join([f"The demo will make at {self.url}, and remove at the end:", *things])

    # --- coming and going ---------------------------------------------------------------------------------------------
    async def __aenter__(self) -> "Guest":
        """Raises KubeError, TimeoutError."""
        try:
            await self._come()
        except BaseException:
            await self._go()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._go()

    async def _come(self) -> None:
        self._came = True
        for crd in self._lacking:
            try:
                made = await self._kube.create(CRDS, "", json.dumps(crd).encode())
            except AlreadyExists:
                continue  # somebody was quicker: theirs
            self._made[crd["metadata"]["name"]] = _meta(made)["uid"]
        await _until(self._served, SERVED_SECONDS, "the API server to serve Devices")
        labels = {DEMO_LABEL: "true", "app.kubernetes.io/managed-by": "canopy-demo"}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name, "labels": labels}}
        await self._kube.create(NAMESPACES, "", json.dumps(body).encode())
        self._say(f"   made the namespace {self.name}" + (f" and {len(self._made)} CRDs" if self._made else ""))

    async def _served(self) -> bool:
        try:
            for resource in _kinds():
                await self._kube.list(resource)
        except NotFound:
            return False
        return True

    async def _go(self) -> None:
        """The units have ended by now: none makes anything anew."""
        if not self._came:
            return
        self._say(f"\nRemoving what the demo made at {self.url} ...")
        await asyncio.gather(
            self._tried(f"Node {self.name}", self._remove(NODES, "", self.name)),
            self._tried(f"Lease {LEASE_NAMESPACE}/{self.name}", self._remove(LEASES, LEASE_NAMESPACE, self.name)),
            self._tried(f"namespace {self.name}", self._remove(NAMESPACES, "", self.name)),
        )
        await asyncio.gather(*(self._tried(f"CRD {name}", self._remove_crd(name)) for name in self._made))
        if not self.left:
            crds_too = f", {len(self._made)} CRDs" if self._made else ""
            self._say(f"Removed: namespace and Node {self.name}{crds_too}")

    async def _tried(self, what: str, removal: Awaitable[None]) -> None:
        try:
            await removal
        except (KubeError, TimeoutError) as error:
            self.left.append(f"{what}: {error}")

    async def _remove(self, resource: Resource, namespace: str, name: str, uid: str = "") -> None:
        """Until it is gone. Raises KubeError, TimeoutError."""

        async def gone() -> bool:
            try:
                await self._kube.get(resource, namespace, name)
            except NotFound:
                return True
            return False

        try:
            await self._kube.delete(resource, namespace, name, uid=uid)
        except NotFound:
            return
        await _until(gone, self.gone_seconds, f"{name} to be gone")

    async def _remove_crd(self, name: str) -> None:
        """With it would go what others have made of that kind meanwhile: then it stays."""
        resource = next(kind for kind in _kinds() if name.startswith(f"{kind.plural}."))
        if count := len((await self._kube.list(resource)).items):
            raise KubeError(f"left, for it has {count} objects of others by now")
        await self._remove(CRDS, "", name, self._made[name])

    def lament(self) -> str:
        """What to say of what is left."""
        return (
            f"\nNot removed at {self.url}:\n  "
            + "\n  ".join(self.left)
            + f"\nOnce the cause is mended: {self._kubectl} delete namespace,node {self.name}"
        )


def _kinds() -> Iterable[Resource]:
    plurals = (devices.DEVICE_MODELS, devices.DEVICES, devices.DEVICE_STATUSES)
    return [Resource(devices.GROUP, devices.VERSION, plural) for plural in plurals]


def _meta(body: bytes) -> Json:
    found: Json = json.loads(body)["metadata"]
    return found


async def _until(so: Callable[[], Awaitable[bool]], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not await so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        await asyncio.sleep(LOOK_SECONDS)
