"""Claim: a machine outside of the cluster becomes a node by one command with a token, which is good for one machine and
once; a node that is revoked is cut off at the hub and goes on by itself, and comes back when it is restored."""

import json
from pathlib import Path

import kubectl as k
import pytest
from installation import JOIN_PORT, LEAF_PORT, Installation
from outside import NODE, Outside
from world import create, known, until, until_shown

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
CUT_SECONDS, BACK_SECONDS = 10.0, 120.0
LEAVES = """
import json, urllib.request as u
print(json.dumps([leaf["name"] for leaf in json.load(u.urlopen("http://127.0.0.1:8222/leafz", timeout=5))["leafs"]]))
"""


async def test_a_token_makes_one_machine_a_node_and_no_second(canopy: Installation, tmp_path: Path) -> None:
    address = await canopy.address()
    one, other = (Outside(tmp_path / name, address, JOIN_PORT, LEAF_PORT) for name in ("one", "other"))
    token = await canopy.token("edge-late")
    code, said = await one.join(token)
    assert code == 0 and "edge-late is joined" in said, said
    code, said = await other.join(token)
    assert code and "used" in said and not other.place.settings.exists(), said


async def test_a_revoked_node_is_cut_off_goes_on_by_itself_and_comes_back_when_it_is_restored(
    canopy: Installation,
) -> None:
    edge = (await canopy.edges())[1]
    await create("kept", edge.node)
    async with edge.talk("kept") as device:
        await known(device)
        await device.update({"level": {"actual": {"value": "1"}, "metadata": {"type": "int"}}})
        await until_shown("kept", {"level": "1"})
        await canopy.fleet("node", "revoke", NODE, "--reason", "the story wants it")
        try:
            await until("the hub has cut it off", _is_cut, CUT_SECONDS)
            assert "code" not in await device.update({"level": {"actual": {"value": "2"}}})
            assert await _is_cut(), "it came back"
        finally:
            await canopy.fleet("node", "restore", NODE, "--reason", "so does it")
        await until_shown("kept", {"level": "2"}, BACK_SECONDS)


async def _is_cut() -> bool:
    servers = [k.named(pod) for pod in await k.pods("app.kubernetes.io/name=nats")]
    leaves = [name for server in servers for name in json.loads(await k.inside(server, LEAVES))]
    assert leaves, "nobody is connected"
    return not any(NODE in name for name in leaves)
