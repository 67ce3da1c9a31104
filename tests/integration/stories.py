"""What the stories do to the system and look for in it: Devices in Kubernetes, their DeviceStatus, the node's twins."""

import time
import uuid
from pathlib import Path
from typing import Any

import yaml
from talk import Talk

from canopy.testing.clients import FleetClient, KubeClient
from canopy.testing.system import System
from canopy.testing.wait import until

EXAMPLES = Path(__file__).parents[2] / "examples"
API = "devices.kubeedge.io/v1beta1"
NAMESPACES = ("dev", "device", "hw", "event")
MODEL: dict[str, Any] = {
    "apiVersion": API,
    "kind": "DeviceModel",
    "metadata": {"name": "thing", "namespace": "default"},
    "spec": {
        "protocol": "mqtt",
        "properties": [
            {"name": "level", "type": "INT", "accessMode": "ReadWrite", "minimum": "0", "maximum": "100"},
            {"name": "serial", "type": "STRING", "accessMode": "ReadOnly"},
            {"name": "mode", "type": "STRING", "accessMode": "ReadWrite"},
        ],
    },
}


class Stories:
    """`system` with clients that stay open."""

    def __init__(self, system: System, kube: KubeClient, api: FleetClient) -> None:
        self.system, self.kube, self.api = system, kube, api

    async def prepare(self) -> None:
        """Namespaces and one DeviceModel in each."""
        for name in NAMESPACES:
            await self.kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for name in ("default", *NAMESPACES):
            await self.kube.apply({**MODEL, "metadata": {"name": "thing", "namespace": name}})

    async def create(
        self, name: str, namespace: str = "default", on: str = "edge-1", desired: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """A Device that speaks MQTT itself; returned as Kubernetes holds it."""
        properties = [{"name": k, "desired": {"value": v}} for k, v in (desired or {}).items()]
        body = {
            "apiVersion": API,
            "kind": "Device",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "deviceModelRef": {"name": "thing"},
                "nodeName": on,
                "protocol": {"protocolName": "mqtt"},
                "properties": properties,
            },
        }
        return (await self.kube.apply(body))[0]

    async def install_light(self, port: int, offsets: dict[str, int] | None = None) -> str:
        """The example's light, at `port`, under a name of its own; that name. `offsets` are other registers."""
        for document in yaml.safe_load_all((EXAMPLES / "light-model.yaml").read_text()):
            await self.kube.apply(document)
        device: dict[str, Any] = yaml.safe_load((EXAMPLES / "light-device.yaml").read_text())
        device["metadata"]["name"] = name = f"light-{uuid.uuid4().hex[:6]}"
        device["spec"]["protocol"]["configData"]["port"] = port
        for prop in device["spec"]["properties"]:
            if prop["name"] in (offsets or {}):
                prop["visitors"]["configData"]["offset"] = (offsets or {})[prop["name"]]
        await self.kube.apply(device)
        return str(name)

    async def known_at_the_edge(self, talk: Talk, seconds: float = 20.0) -> None:
        """Wait until DeviceTwin answers for this device."""
        await self._until_get(talk, lambda answer: "code" not in answer, seconds)

    async def unknown_at_the_edge(self, talk: Talk, seconds: float = 20.0) -> None:
        """Wait until DeviceTwin says 404 for this device."""
        await self._until_get(talk, lambda answer: answer.get("code") == 404, seconds)

    async def _until_get(self, talk: Talk, good: Any, seconds: float) -> None:
        async def asked() -> bool:
            await talk.say("twin/get", {"event_id": "known"})
            return bool(good(await talk.next("twin/get/result")))

        await until(asked, seconds)

    async def status(self, name: str, namespace: str = "default") -> dict[str, str]:
        """The reported values of a DeviceStatus by property; empty if there is none."""
        found = await self.kube.get("DeviceStatus", name, namespace)
        twins = ((found or {}).get("status") or {}).get("twins") or []
        return {t["propertyName"]: t["reported"]["value"] for t in twins if t.get("reported")}

    async def says(self, name: str, condition: str, status: str, reason: str) -> str:
        """Wait until a condition of a DeviceStatus is so; its message."""

        async def so() -> list[str]:
            found = ((await self.kube.get("DeviceStatus", name)) or {}).get("status") or {}
            wanted = (condition, status, reason)
            conditions = found.get("conditions") or []
            return [c.get("message", "") for c in conditions if (c["type"], c["status"], c["reason"]) == wanted]

        return (await until(so, 15))[0]

    async def shows(self, name: str, values: dict[str, str], seconds: float, namespace: str = "default") -> float:
        """Wait until the DeviceStatus shows these values; the seconds it took."""
        began = time.monotonic()

        async def equal() -> bool:
            now = await self.status(name, namespace)
            return all(now.get(k) == v for k, v in values.items())

        try:
            await until(equal, seconds)
        except TimeoutError:
            raise AssertionError(
                f"{name} does not show {values} after {seconds:g} s: {await self.status(name, namespace)}"
            ) from None
        return time.monotonic() - began
