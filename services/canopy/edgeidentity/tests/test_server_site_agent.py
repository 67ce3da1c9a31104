"""A site with a SPIRE agent of its own: the link's certificate comes from it (source `workload-api`)."""

import asyncio
import os
import random
from pathlib import Path

import pytest

from canopy.edgeidentity import prepare
from canopy.edgeidentity.settings import Settings
from canopy.identity import ids
from canopy.identity.authority import Entry
from canopy.identity.identity import read_identity
from canopy.runtime.clock import SystemClock
from canopy.runtime.settings import Shared
from canopy.testing import spire
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.spire, pytest.mark.xdist_group("spire")]
TD, NODE = "canopy.test", "edge.1"
AGENT = ids.node(TD, "site")
TTL_SECONDS = 60
ME = f"unix:uid:{os.getuid()}"


async def test_the_links_certificate_comes_from_the_sites_agent(tmp_path: Path) -> None:
    """There is no way to write `nats.conf` before: the leaf could not start. Another identity that the agent offers to
    this user is passed over."""
    if spire.programs() is None:
        pytest.skip(spire.MISSING)
    async with (
        spire.spire_server(tmp_path / "server", TD) as server,
        spire.spire_agent(tmp_path / "agent", server, AGENT) as agent,
    ):
        settings = Settings(source="workload-api", workload_socket=agent.socket, look_seconds=0.05)
        shared = Shared(node_name=NODE, data_dir=tmp_path / "node")
        node = prepare.Node(shared, settings, SystemClock(), random.Random(1))
        ready = asyncio.create_task(_ready(node))
        authority = server.authority()
        await authority.put(Entry(ids.cloud(TD, "cloudhub"), AGENT, (ME,), (), TTL_SECONDS))
        await until((node.folders.leaf / "svid.pem").exists)
        assert not node.folders.config.exists()
        await authority.put(Entry(ids.node(TD, NODE), AGENT, (ME,), (), TTL_SECONDS))
        await asyncio.wait_for(ready, 30)
        await authority.close()


async def _ready(node: prepare.Node) -> None:
    async with node.prepared():
        assert node.folders.config.exists()
        assert read_identity(node.folders.link).svid.id == ids.node(TD, NODE)
