"""A SPIRE server at a site, nested below the fleet's: what docs/run-an-edge-node.md shows, run with the real programs.

The fleet's server has an agent at the site; beside it stand the site's own server, an agent of that one, and
edgeidentity, which takes the node's certificate for the link there. The hub lets in the node that is named, and nobody
else whom the site's server names.
"""

import os
import random
import re
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from callouts import RealCallout
from raw_leaf import NotAdmitted, RawLeaf, context_of
from spire_hub import TD, closing, hub_of

from canopy.edgeidentity.prepare import Node
from canopy.edgeidentity.settings import Settings
from canopy.identity import ids
from canopy.identity.authority import Entry
from canopy.identity.identity import BUNDLE_FILE, read_identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.sources import AuthoritySource
from canopy.identity.spire import Spire
from canopy.identity.svid import certificates, verify_chain
from canopy.runtime.clock import SystemClock
from canopy.runtime.settings import Shared
from canopy.spire_integration.core import Believed
from canopy.testing import spire
from canopy.testing.child import HOST, free_port, tail
from canopy.testing.servers import NatsServer, RunningHub
from canopy.testing.wait import until

pytestmark = [pytest.mark.spire, pytest.mark.timeout(120)]
DOCUMENT = Path(__file__).parents[2] / "docs" / "run-an-edge-node.md"
SITE, BELOW = ids.node(TD, "site"), SpiffeId(TD, "/nested/site")
SITES_AGENT = SpiffeId(TD, "/nested/site/agent")
EDGE, OTHER = ids.node(TD, "edge-9"), ids.node(TD, "edge-1")
ME = f"unix:uid:{os.getuid()}"
TTL_SECONDS = 13
"""The server puts the beginning 10 s back: half of the life is over after 2 s."""
SUBSCRIBED_SECONDS = 8.0
"""After it has come up: 5 s later, once, a nested server asks its upstream for the roots to come, and ends where nobody
answers then."""


@pytest.fixture(autouse=True)
def built():
    if spire.programs() is None:
        pytest.skip(spire.MISSING)


async def test_a_nested_server_brings_its_node_to_the_hub_also_without_its_upstream_and_nobody_else(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(spire.spire_server(tmp_path / "fleet", TD))
        above = await stack.enter_async_context(spire.spire_agent(tmp_path / "above", fleet, SITE))
        await fleet.let_nest(BELOW, SITE, ME)
        nested = spire.spire_server(tmp_path / "nested", TD, upstream=(fleet, above))
        site = await stack.enter_async_context(nested)
        came_up = time.monotonic()
        assert _shape(_documented()) in _shape((tmp_path / "nested" / "spire-server.conf").read_text())
        agent = await stack.enter_async_context(spire.spire_agent(tmp_path / "agent", site, SITES_AGENT))
        ours, theirs = [await stack.enter_async_context(closing(server.authority())) for server in (fleet, site)]
        await theirs.put(Entry(EDGE, SITES_AGENT, (ME,), ttl_seconds=TTL_SECONDS))
        callout = RealCallout(believed=Believed(nested=frozenset({"edge-9"})))
        hub = await hub_of(tmp_path, ours, stack, callout)

        node = _node(tmp_path / "node", hub.leaf_url(), agent.socket)
        await stack.enter_async_context(node.prepared())
        leaf = await NatsServer.open(node.folders.config, tmp_path / "leaf", _ports(node))
        stack.push_async_callback(leaf.kill)
        ends = await until(lambda: _let_in(callout))
        link = read_identity(node.folders.link)
        assert verify_chain(link.svid.chain_pem, await ours.bundle(), time.time()) == EDGE
        assert len(certificates(link.svid.chain_pem)) == 2, "its own, and that of the site's server"

        assert await _is_let_in(tmp_path, hub, ours, OTHER)
        for other in (OTHER, ids.cloud(TD, "cloudhub")):
            assert not await _is_let_in(tmp_path, hub, theirs, other)
            assert "below the fleet's" in _refusal(callout, other)

        await until(lambda: time.monotonic() > came_up + SUBSCRIBED_SECONDS)
        await fleet.kill()
        away, told = time.time(), link.svid.serial

        def has_come_back() -> bool:
            nonlocal told
            assert site.running, tail(site.log)
            if (newest := read_identity(node.folders.link).svid.serial) != told:  # as edgeidentity does
                told = newest
                leaf.reload()
            return _let_in(callout) > away + TTL_SECONDS  # it was made since then

        await until(has_come_back, 3 * TTL_SECONDS)
        assert time.time() >= ends, "the hub ended it with its certificate"


def _documented() -> str:
    """What makes a server a nested one, as the document has it."""
    text = DOCUMENT.read_text()
    begins = text.index('  UpstreamAuthority "spire"')
    return text[begins : text.index("\n  }\n", begins)]


def _shape(text: str) -> str:
    """Without values and spaces."""
    return re.sub(r'= ".*"|\s', "", text)


def _node(folder: Path, hub_url: str, socket: Path) -> Node:
    """edgeidentity's, with the settings that the document names."""
    listens = {f"{name}_listen": f"{HOST}:{free_port()}" for name in ("leaf", "mqtt")}
    settings = Settings(folder=folder, source="workload-api", workload_socket=socket, hub_url=hub_url, **listens)
    shared = Shared(node_name="edge-9", trust_domain=TD, data_dir=folder)
    return Node(shared, settings, SystemClock(), random.Random())


def _ports(node: Node) -> list[int]:
    settings = node._settings
    return [int(listen.rpartition(":")[2]) for listen in (settings.leaf_listen, settings.mqtt_listen)]


async def _is_let_in(tmp_path: Path, hub: RunningHub, authority: Spire, id: SpiffeId) -> bool:
    """Whether the hub lets in, as a leaf, who is `id` by a certificate that this authority signs."""
    folder = tmp_path / "other"
    write_identity(folder, await AuthoritySource(authority, id, ttl_seconds=60).first())
    try:
        async with await RawLeaf.open(hub.leaf_port, context_of(folder, tmp_path / "hub" / BUNDLE_FILE), "other"):
            return True
    except NotAdmitted:
        return False


def _let_in(callout: RealCallout) -> float:
    """When the certificate ends by which the hub last let in the node; 0: it never did."""
    records = callout.audit.waiting(1_000)
    return max((one.not_after / 1000 for one in records if (one.who, one.outcome) == (str(EDGE), "ok")), default=0.0)


def _refusal(callout: RealCallout, id: SpiffeId) -> str:
    found = [one.reason for one in callout.audit.waiting(1_000) if (one.who, one.outcome) == (str(id), "refused")]
    return " ".join(found)
