"""spire_integration with the real SPIRE server: what it keeps there, and what goes on while that server is away."""

import asyncio

import msgspec
import pytest

from canopy.identity import ids
from canopy.identity.authority import AuthorityAway, Entry
from canopy.identity.ids import SpiffeId
from canopy.spire_integration.tests.fleet import open_fleet
from canopy.testing.domain import TD
from canopy.testing.spire import MISSING, programs, spire_server
from canopy.testing.wait import until

pytestmark = [
    pytest.mark.server,
    pytest.mark.spire,
    pytest.mark.xdist_group("spire"),
    pytest.mark.skipif(programs() is None, reason=MISSING),
]
AGENT = "/spire/agent/x509pop/cloud"
FOREIGN = Entry(SpiffeId(TD, "/billing"), SpiffeId(TD, AGENT), ("unix:uid:9",))
OWN = Entry(ids.cloud(TD, "spire_integration"), SpiffeId(TD, AGENT), ("unix:uid:8",))


def listed(*paths):
    return msgspec.json.encode([{"path": p, "parent": AGENT, "selectors": ["unix:uid:1"]} for p in paths])


async def test_spires_entries_follow_the_list_and_the_revocations_and_admissions_go_on_without_spire(tmp_path):
    entries = tmp_path / "entries.json"
    entries.write_bytes(listed("/cloud/cloudhub", "/node/edge-1", "/node/edge-2"))
    async with spire_server(tmp_path / "spire") as spire:
        authority = spire.authority()

        async def held(*paths):
            try:
                found = await authority.entries()
            except AuthorityAway:  # it has just come back
                return False
            return {entry.id.path for entry in found} == {"/billing", OWN.id.path, *paths}

        for entry in (FOREIGN, OWN):
            await authority.put(entry)
        unit = ids.cloud(TD, "cloudhub")
        opened = open_fleet(tmp_path, authority=authority, entries_file=str(entries))
        async with opened as fleet, fleet.replica() as env:
            await until(lambda: held("/cloud/cloudhub", "/node/edge-1", "/node/edge-2"))
            folder = fleet.world.folder / "files" / "cloud" / "cloudhub"
            connection = await fleet.world.connect(folder, fleet.shared.nats_url, ids.hub(TD))
            bus = await fleet.world.opened(connection, "cloudhub")
            await fleet.revoke(bus, "edge-1")
            await until(lambda: held("/cloud/cloudhub", "/node/edge-2"))
            await fleet.audit(env, what="entry", who="/node/edge-1", reason="removed")

            late = await fleet.identity(unit)
            await spire.kill()
            entries.write_bytes(listed("/cloud/cloudhub", "/node/edge-1", "/hub"))
            await until(lambda: "entries: SPIRE server" in env.health.facts["authority"])
            assert (await fleet.knock(late)).is_in and connection.connected
            await spire.start()
            await until(lambda: held("/cloud/cloudhub", "/hub"))
            await fleet.revoke(bus, "edge-1", restore=True)
            await until(lambda: held("/cloud/cloudhub", "/hub", "/node/edge-1"))
            await asyncio.wait_for(authority.close(), 10)
