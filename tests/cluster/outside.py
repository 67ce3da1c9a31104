"""An edge outside of the cluster: nats-server and the four edge units as bare processes of this machine, which join
the hub at a port of the cluster's node, as a plain machine does."""

from dataclasses import dataclass, field
from pathlib import Path

from world import Edge

from canopy.bus.config import EDGE
from canopy.contracts.roles import EDGE_UNITS
from canopy.testing.child import HOST, free_port
from canopy.testing.processes import Process
from canopy.testing.servers import NatsServer, leaf

NODE = "edge-outside"


@dataclass
class Outside:
    """`start` once; `stop` ends it, `start` again goes on from the same files."""

    directory: Path
    leaf_url: str
    edge: Edge | None = None
    _server: NatsServer | None = None
    _units: Process | None = field(default=None)

    async def start(self) -> Edge:
        """The leaf and its units, ready."""
        if self.edge is None:
            running = await leaf(self.directory / "leaf", NODE, self.leaf_url)
            self._server = running.server
            own = {
                "CANOPY_NODE_NAME": NODE,
                "CANOPY_NATS_URL": running.client_url,
                "CANOPY_NATS_USER": EDGE,
                "CANOPY_NATS_PASSWORD": running.passwords[EDGE],
                "CANOPY_DATA_DIR": str(self.directory / "units"),
                "CANOPY_HEALTH_LISTEN": f"{HOST}:{(port := free_port())}",
            }
            arguments = ("canopy.cli.main", "run", *EDGE_UNITS)
            self._units = Process(NODE, arguments, self.directory / "units.log", own, port)
            self.edge = Edge(NODE, HOST, running.mqtt_port)
        assert self._server and self._units
        if not self._server.running:
            await self._server.start()
        if not self._units.running:
            await self._units.start()
        return self.edge

    async def stop(self) -> None:
        """Gone, as a machine that is switched off."""
        if self._units and self._units.running:
            await self._units.stop()
        if self._server and self._server.running:
            await self._server.stop()
