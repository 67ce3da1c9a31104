"""The whole system in containers, every connection by a certificate: SPIRE, Kubernetes, a hub of three servers, Redis,
two replicas of every cloud unit and of spire_integration, and two nodes that have joined with a token: one split into
sidecars, one folded, behind links that can be cut. Made once for a session; stories share it.

It looks as `canopy.testing.system.System` does where the players and the eyes of the integration tests ask for it.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from boxes import Box, Run
from cloud_box import REPLICAS, Cloud
from cluster_box import ClusterBox
from node_box import FOLDED as FOLDED_UNITS
from node_box import SPLIT as SPLIT_UNITS
from node_box import Node, Nodes
from specs import TAG
from spire_box import Spire

from canopy.testing.clients import FleetClient, KubeClient

REDIS = os.environ.get("CANOPY_E2E_REDIS_IMAGE", f"canopy/redis:{TAG}")
SPLIT, FOLDED = "edge-1", "edge-2"
NETWORKS = {"spire": False, "cloud": False, "uplink": True, "site": False}
"""Whether each leads nowhere else."""
HOLDS = ("-net", "-cli", "-processes")
"""Ends of names: containers that do nothing by themselves."""


@dataclass
class Topology:
    """`async with Topology(run, programs)`: all of it, ready."""

    run: Run
    programs: Path | None
    nodes: dict[str, Node] = field(default_factory=dict)
    replicas: int = REPLICAS
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cluster = ClusterBox(self.run, self.programs)
        self.spire = Spire(self.run)
        self._cloud = Cloud(self.run, self.spire, self.cluster, REDIS)
        self.machines = Nodes(self.run, self.api)
        self.spans = self._cloud.spans

    async def __aenter__(self) -> "Topology":
        began = time.monotonic()
        for network, internal in NETWORKS.items():
            self.run.network(network, internal)
        await asyncio.gather(self._start_hub(), self.cluster.start(), self._cloud.start_stores())
        node = self.machines.machine
        *nodes, _ = await asyncio.gather(
            node(SPLIT, SPLIT_UNITS), node(FOLDED, FOLDED_UNITS), self._cloud.start_units()
        )
        await asyncio.gather(*map(self._start_node, nodes))
        self.figures["seconds until all is ready"] = round(time.monotonic() - began, 1)
        self.figures["seconds to ready"] = {b.name: round(b.ready_seconds, 1) for b in self.boxes()}
        return self

    async def _start_hub(self) -> None:
        await self.spire.start()
        await self._cloud.start_hub()

    async def _start_node(self, node: Node) -> None:
        self.nodes[node.name] = node
        await self.machines.joined(node)
        await self.machines.started(node)

    async def __aexit__(self, *error: object) -> None:
        await self.run.gone()

    # --- finding ------------------------------------------------------------------------------------------------------
    @property
    def cloud(self) -> dict[str, list[Box]]:
        """Replicas of the cloud's units, spire_integration's first."""
        return self._cloud.units

    @property
    def hub(self) -> list[Box]:
        return self._cloud.hub

    def boxes(self) -> list[Box]:
        """Every container but those that only hold something for others."""
        return [box for name, box in self.run.boxes.items() if not name.endswith(HOLDS)]

    def helpers(self) -> list[Box]:
        """Who keeps the identities of the cloud's units and of the hub's servers."""
        return [box for name, box in self.run.boxes.items() if name.endswith("-identity")]

    def kube(self) -> KubeClient:
        return KubeClient(self.cluster.kubeconfig)

    def api(self, replica: int = 1) -> FleetClient:
        return FleetClient(f"http://127.0.0.1:{self._cloud.api_ports[replica - 1]}/api/v1", self.cluster.token)

    async def connections(self) -> set[str]:
        """Who is connected to the hub, clients and leaves, and since when."""
        clients = await self._cloud.asked("/connz", "connections")
        return {f"{c['server']} {c.get('name')} {c.get('cid')}" for c in clients} | {
            f"{leaf['server']} {leaf.get('name')} {leaf.get('id')}" for leaf in await self.leaves()
        }

    async def leaves(self, node: str = "") -> list[dict[str, Any]]:
        """The leaves that the hub's servers hold; of one node."""
        found = await self._cloud.asked("/leafz", "leafs")
        return [leaf for leaf in found if str(leaf.get("name")).startswith(f"{node}-" if node else "")]

    async def metrics(self) -> Path:
        """What every unit measures, each in a file of a folder."""
        folder = self.run.directory.parent / "logs" / "metrics"
        folder.mkdir(parents=True, exist_ok=True)
        async with httpx.AsyncClient(trust_env=False) as client:
            for box in self.boxes():
                if box.spec.health.endswith("/readyz") and box.name != "kube-apiserver":
                    with contextlib.suppress(httpx.TransportError):
                        answer = await client.get(box.spec.health.removesuffix("/readyz") + "/metrics")
                        (folder / f"{box.name}.txt").write_text(answer.text)
        return folder

    async def measured(self) -> None:
        """RSS of every container, in MB."""
        sizes = await asyncio.gather(*(box.rss_mb() for box in self.boxes()))
        self.figures["rss_mb"] = {b.name: mb for b, mb in zip(self.boxes(), sizes, strict=True) if mb}

    # --- nodes --------------------------------------------------------------------------------------------------------
    async def add_node(
        self,
        name: str,
        processes: tuple[str, ...],
        images: Mapping[str, str] | None = None,
        clients: bool = False,
    ) -> Node:
        """One more node, which joins with a token; `Nodes.add` says the rest."""
        self.nodes[name] = node = await self.machines.add(name, processes, images, clients)
        return node

    async def remove_node(self, name: str) -> None:
        """As if it had never been, but that the hub knows it."""
        self.nodes.pop(name, None)
        await self.machines.remove(name)
        async with self.kube() as kube:
            await kube.delete("Node", name)


__all__ = ["FOLDED", "FOLDED_UNITS", "SPLIT", "SPLIT_UNITS", "Topology"]
