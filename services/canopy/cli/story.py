"""The demo's story, step by step, against the real system: each step acts, waits with a deadline, and says the time.

`demo` runs it. Nothing here pretends: every sentence is said after what it says was seen.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from canopy.cli.gateway import Gateway, connected
from canopy.testing import light
from canopy.testing.clients import FleetClient, KubeClient, Refused
from canopy.testing.system import System

HOST = "127.0.0.1"
LOOK_SECONDS = 0.03
CUT_SECONDS = 2.0
MODEL_FILE, DEVICE_FILE = "light-model.yaml", "light-device.yaml"

Twins = dict[str, str]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it shows, how long it may take, and whose logs explain a failure."""

    title: str
    seconds: float
    act: "Callable[[Story], Awaitable[None]]"
    units: tuple[str, ...]


class Story:
    """Holds the system and its clients. `tell` takes a sentence; it knows the time."""

    def __init__(
        self, system: System, stack: AsyncExitStack, examples: Path, tell: Tell, namespace: str = "default"
    ) -> None:
        self.system, self._stack, self._examples, self.tell = system, stack, examples, tell
        self.namespace, self.name = namespace, "light"
        self.light_port = 0
        self._kube: KubeClient
        self._api: FleetClient
        self._edge: Gateway

    @property
    def device(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def node(self) -> str:
        return self.system.node().name

    # --- 1 ------------------------------------------------------------------------------------------------------------
    async def comes_up(self) -> None:
        """Servers and units; the joining edge becomes a Node."""
        await self._stack.enter_async_context(self.system)
        self.light_port = await self.system.light()
        self.tell(f"a light is switched off and listens for Modbus TCP at {HOST}:{self.light_port}")
        self._kube = await self._stack.enter_async_context(self.system.kube())
        self._api = await self._stack.enter_async_context(self.system.api())
        await until(self._node_ready, 15, f"node {self.node} Ready in Kubernetes")
        self.tell(f"the edge said hello: Kubernetes has a Node {self.node}, and it is Ready")

    async def _node_ready(self) -> Any:
        found = await self._kube.get("Node", self.node) or {}
        conditions = {c["type"]: c["status"] for c in found.get("status", {}).get("conditions", [])}
        return conditions.get("Ready") == "True", conditions or "no such Node"

    # --- 2 ------------------------------------------------------------------------------------------------------------
    async def device_travels(self) -> None:
        """Down: DeviceModel and Device from Kubernetes to the node. Up: what the light is like."""
        client = self.system.mqtt(identifier="canopy-demo")
        device = self._device_manifest()
        self._edge = await self._stack.enter_async_context(connected(client, self.node, self.namespace, self.name))
        await self._kube.apply(self._manifest(MODEL_FILE))
        began = time.monotonic()
        await self._kube.apply(device)
        self.tell(f"applied {MODEL_FILE} and {DEVICE_FILE} (its ip and port are our light's)")
        await until(self._arrived, 15, f"{self.device} at the edge")
        self.tell(f"the Device is at the edge, {time.monotonic() - began:.2f} s after it was applied")
        twins = await self._status(lambda t: {"switch", "brightness", "power"} <= t.keys(), "the light's three values")
        self.tell(f"the edge reads the light; DeviceStatus in Kubernetes says {said(twins)}")

    def _device_manifest(self) -> dict[str, Any]:
        device = self._manifest(DEVICE_FILE)
        device["spec"]["nodeName"] = self.node
        device["spec"]["protocol"]["configData"] |= {"ip": HOST, "port": self.light_port}
        self.name = device["metadata"]["name"]
        return device

    def _manifest(self, file: str) -> dict[str, Any]:
        """An example, in the story's namespace."""
        found: dict[str, Any] = yaml.safe_load((self._examples / file).read_text())
        found["metadata"]["namespace"] = self.namespace
        return found

    async def _arrived(self) -> Any:
        names = await self._edge.device_names()
        return self.name in names, f"the node has {names}"

    # --- 3 ------------------------------------------------------------------------------------------------------------
    async def desired_travels(self) -> None:
        """Down: a desired value to the real coil. Up: that it is so."""
        began = time.monotonic()
        await self._api.set_desired(self.namespace, self.name, {"switch": "true"})
        self.tell('asked the fleet API for switch=true (PUT .../desired {"switch": "true"})')
        await until(self._is_on, 15, "the Modbus coil on")
        self.tell(f"the light is on: its Modbus coil changed after {time.monotonic() - began:.2f} s")
        twins = await self._status(
            lambda t: t.get("switch") == "true" and t.get("power") not in ("0", "0.0"), "switch=true"
        )
        self.tell(f"DeviceStatus says {said(twins)}, {time.monotonic() - began:.2f} s after the wish")

    async def _is_on(self) -> Any:
        found = await light.read(HOST, self.light_port)
        return found.on, found

    # --- 4 ------------------------------------------------------------------------------------------------------------
    async def mqtt_reports(self) -> None:
        """A device that speaks MQTT itself, by a certificate of its own."""
        await self._provision()
        self.tell(f"canopy device provision {self.device}: a certificate of the node's own authority, in {self.bundle}")
        began = time.monotonic()
        client = self.system.mqtt_tls(self.bundle, identifier="canopy-demo-light")
        async with connected(client, self.node, self.namespace, self.name) as device:
            await device.report("note", "hello from MQTT", "string")
        port = self.system.home().mqtt_tls_port
        self.tell(f"a stock MQTT client reported note='hello from MQTT' over TLS at {HOST}:{port}; answered")
        await until(lambda: self._api_says("note", "hello from MQTT"), 15, "the report in the fleet API")
        self.tell(f"the fleet API shows it, {time.monotonic() - began:.2f} s after it was reported")

    @property
    def bundle(self) -> Path:
        """Folder of the device's certificate, key and roots."""
        return self.system.directory / "light"

    async def _provision(self) -> None:
        """As a person on the node does it."""
        socket, command = self.system.home().identity / "admin.sock", (sys.executable, "-m", "canopy.cli.main")
        asked = ("device", "provision", self.device, "--out", str(self.bundle), "--socket", str(socket))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*command, *asked, stdout=pipe, stderr=asyncio.subprocess.STDOUT)
        said, _ = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"canopy {' '.join(asked)}: {said.decode().strip()}")

    async def _api_says(self, name: str, value: str) -> Any:
        twins = (await self._api.get(f"devices/{self.namespace}/{self.name}/twin"))["twins"]
        found = ((twins.get(name) or {}).get("reported") or {}).get("value")
        return found == value, f"{name} is {found!r}"

    # --- 5 ------------------------------------------------------------------------------------------------------------
    async def link_is_cut(self) -> None:
        """The edge goes on alone. The wish is taken back first: else the edge would switch the light on again."""
        await self._take_wish_back()
        self.tell("the wish was taken back (`desired` removed from the Device), so whoever is at the light decides")
        await self.system.node().link.cut()
        self.tell("the link between node and cloud is cut")
        await light.flip(HOST, self.light_port, False)
        self.tell("somebody flips the switch at the light: it is off")
        twins = await until(self._edge_says_off, 15, "the flipped switch at the edge")
        self.tell(f"the edge serves it all the same (twin/get over MQTT): {said(twins)}")
        await self._still_on()
        self.tell(f"the cloud cannot know: {CUT_SECONDS:g} s later DeviceStatus still says {said(await self._twins())}")

    async def _still_on(self) -> None:
        """Look for a while: a cut that lets something through should not go unseen."""
        until_then = time.monotonic() + CUT_SECONDS
        while time.monotonic() < until_then:
            twins = await self._twins()
            if twins.get("switch") != "true":
                raise RuntimeError(f"DeviceStatus says {said(twins)} although the link is cut")
            await asyncio.sleep(CUT_SECONDS / 10)

    async def _take_wish_back(self) -> None:
        device = await self._kube.get("Device", self.name, self.namespace) or {}
        properties = [{k: v for k, v in p.items() if k != "desired"} for p in device["spec"]["properties"]]
        await self._kube.patch("Device", self.name, {"spec": {"properties": properties}}, self.namespace)
        await until(self._edge_wants_nothing, 15, "no expected value at the edge")

    async def _edge_wants_nothing(self) -> Any:
        wanted = await self._edge.expected()
        return not wanted, f"the edge expects {wanted}"

    async def _edge_says_off(self) -> Any:
        twins = await self._edge.twin()
        return (twins if twins.get("switch") == "false" else None), twins

    # --- 6 ------------------------------------------------------------------------------------------------------------
    async def link_is_joined(self) -> None:
        """The cloud catches up."""
        began = time.monotonic()
        await self.system.node().link.join()
        self.tell("the link is joined again")
        twins = await self._status(lambda t: t.get("switch") == "false", "switch=false", 25)
        self.tell(f"the cloud has caught up after {time.monotonic() - began:.2f} s: DeviceStatus says {said(twins)}")

    # --- looking ------------------------------------------------------------------------------------------------------
    async def _status(self, right: Callable[[Twins], bool], what: str, seconds: float = 15) -> Twins:
        async def look() -> Any:
            twins = await self._twins()
            return (twins if right(twins) else None), f"DeviceStatus says {said(twins)}"

        found: Twins = await until(look, seconds, f"{what} in DeviceStatus")
        return found

    async def _twins(self) -> Twins:
        """What DeviceStatus in Kubernetes says, with the device's state as `state`."""
        found = await self._kube.get("DeviceStatus", self.name, self.namespace) or {}
        status = found.get("status") or {}
        reported = {t["propertyName"]: (t.get("reported") or {}).get("value") for t in status.get("twins") or []}
        twins = {name: str(value) for name, value in reported.items() if value is not None}
        return {**twins, "state": status["state"]} if status.get("state") else twins


STEPS = (
    Step(
        "Servers and units come up, and the node is Ready", 60, Story.comes_up,
        ("spire_integration", "edgecontroller", "edgehub"),
    ),
    Step(
        "A Device travels to the edge, its state travels back", 35, Story.device_travels,
        ("devicecontroller", "metamanager", "devicetwin", "mapper"),
    ),
    Step("A wish travels to the light, and is fulfilled", 35, Story.desired_travels, ("devicecontroller", "mapper")),
    Step(
        "A device reports over MQTT, by a certificate of its own", 25, Story.mqtt_reports,
        ("edgeidentity", "devicetwin", "cloudhub"),
    ),
    Step("The link is cut, and the edge goes on alone", 40, Story.link_is_cut, ("devicetwin", "mapper")),
    Step("The link is joined, and the cloud catches up", 30, Story.link_is_joined, ("edgehub", "cloudhub")),
)  # fmt: skip


async def until(look: Callable[[], Awaitable[Any]], seconds: float, what: str) -> Any:
    """Look until the first of the pair that `look` gives is true, and return it; the second says what is instead.

    Raises TimeoutError, naming what was waited for and what was last seen.
    """
    deadline, seen = time.monotonic() + seconds, "nothing"
    while time.monotonic() < deadline:
        try:
            found, seen = await look()
        except (Refused, ConnectionError) as e:
            found, seen = None, str(e)
        if found:
            return found
        await asyncio.sleep(LOOK_SECONDS)
    raise TimeoutError(f"waited {seconds:g} s for {what}; last seen: {seen}")


def _is_lit(twins: Twins) -> bool:
    return twins.get("switch") == "true" and twins.get("power") not in (None, "0", "0.0")


def said(twins: Twins) -> str:
    """Twins in words: the light's own first."""
    order = ("switch", "brightness", "power")
    names = [*(n for n in order if n in twins), *sorted(twins.keys() - {*order, "state"})]
    values = ", ".join(f"{n}={twins[n]}" for n in names) or "nothing"
    return f"{values} ({twins['state']})" if "state" in twins else values
