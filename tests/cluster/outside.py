"""An edge outside of the cluster: a machine that joins with a token at a port of the cluster's node, and then runs
nats-server and the edge's units as bare processes, as docs/run-an-edge-node.md says."""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path

from credentials import from_folder
from world import Edge, until

from canopy.cli.joined import NODE_UNITS, Place
from canopy.testing.child import HOST, Child, free_port
from canopy.testing.processes import Process, environment
from canopy.testing.servers import nats_binary

NODE = "edge-outside"
READY_SECONDS = 120.0
HUB_NAME = "localhost"
"""The hub knows itself by it (`canopy secrets --hub-names`): its leaf port is handed on from a port of this machine."""
LINK = Path(__file__).parents[2] / "deploy/k8s/overlays/dev/link.py"


class Server(Child):
    """Ready when the units are."""

    async def ready(self) -> None:
        return None


@dataclass
class Outside:
    """`join` once, `start` and `stop` as often as you like: it goes on from the same files."""

    directory: Path
    address: str
    join_port: int
    leaf_port: int
    edge: Edge | None = None
    _parts: tuple[Child, ...] = field(default=())

    @property
    def place(self) -> Place:
        return Place(self.directory / "node")

    async def join(self, token: str) -> tuple[int, str]:
        """(exit code, what was said) of the one command."""
        port = free_port()
        words = ("join", f"https://{self.address}:{self.join_port}", "--token", token, "--dir", str(self.place.folder))
        words += ("--hub", f"tls://{HUB_NAME}:{port}")
        code, said = await command(*words)
        if code == 0:
            self._furnish(port)
        return code, said

    def _furnish(self, link_port: int) -> None:
        health, leaf, mqtt = free_port(), free_port(), free_port()
        own = {
            "CANOPY_ENV_FILE": str(self.place.settings),
            "CANOPY_NATS_URL": f"tls://{HOST}:{leaf}",
            "CANOPY_HEALTH_LISTEN": f"{HOST}:{health}",
            "CANOPY_EDGEIDENTITY_LEAF_LISTEN": f"{HOST}:{leaf}",
            "CANOPY_EDGEIDENTITY_MQTT_LISTEN": f"{HOST}:{mqtt}",
        }
        handing_on = [sys.executable, str(LINK), f"{HOST}:{link_port}", self.address, str(self.leaf_port)]
        logs, none = self.directory, environment({})
        self._parts = (
            Server(handing_on, none, logs / "link.log"),
            Process(NODE, ("canopy.cli.main", "run", *NODE_UNITS), logs / "units.log", own, health),
            Server([str(nats_binary()), "-c", str(self.place.config)], none, logs / "leaf.log"),
        )
        socket = self.place.identity / "admin.sock"
        self.edge = Edge(NODE, HOST, mqtt, from_folder(self.directory / "devices", socket))

    async def start(self) -> Edge:
        """Its processes, ready."""
        assert self.edge is not None, "it has not joined"
        link, units, leaf = self._parts
        for part in (link, units):
            if not part.running:
                part.spawn()
        if not leaf.running:
            await until("edgeidentity has written the leaf's configuration", self._configured, 30)
            leaf.spawn()
        await units.ready(READY_SECONDS)
        return self.edge

    async def _configured(self) -> bool:
        return self.place.config.is_file()

    async def stop(self) -> None:
        """Gone, as a machine that is switched off."""
        for part in reversed(self._parts):
            if part.running:
                await part.stop()


async def command(*words: str) -> tuple[int, str]:
    """(exit code, its output; if it failed, what it complained of) of the command line."""
    program = (sys.executable, "-m", "canopy.cli.main", *words)
    process = await asyncio.create_subprocess_exec(*program, stdout=-1, stderr=-1, env=environment({}))
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (err if process.returncode else out).decode()
