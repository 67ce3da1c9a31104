"""A Modbus light in a container beside a node, and the Device that stands for it."""

import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from stories import Stories
from topology import Topology

from canopy.testing import light

EXAMPLES = Path(__file__).parents[2] / "examples"


class Lights:
    """`async with Lights(topology, stories, node) as one:` the light of this node; its Device is `one.name`."""

    def __init__(self, topology: Topology, stories: Stories, node: str) -> None:
        self._stories, self._node = stories, topology.nodes[node]
        self.name = f"light-{uuid.uuid4().hex[:6]}"

    async def __aenter__(self) -> "Lights":
        for document in yaml.safe_load_all((EXAMPLES / "light-model.yaml").read_text()):
            await self._stories.kube.apply(document)
        device: dict[str, Any] = yaml.safe_load((EXAMPLES / "light-device.yaml").read_text())
        device["metadata"]["name"] = self.name
        device["spec"]["nodeName"] = self._node.name
        device["spec"]["protocol"]["configData"] |= {"ip": self._node.light.name, "port": 5020}
        for one in device["spec"]["properties"]:
            one.pop("desired", None)
        await self._stories.kube.apply(device)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stories.kube.delete("Device", self.name)

    async def flip(self, on: bool) -> None:
        """A hand at the light."""
        await light.flip("127.0.0.1", self._node.light_port, on)

    async def is_on(self) -> bool:
        """An eye at the light."""
        return (await light.read("127.0.0.1", self._node.light_port)).on
