"""Everybody known by a certificate: what may die meanwhile, and what nobody notices of it.

One world for all stories: two replicas of spire_integration and of the cloud, and devices that speak MQTT over TLS by
certificates of their own. A second node joins in the middle. CANOPY_TEST_SPLIT=1: a process a unit, else folded.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from own_certificates import Device, connected, provision, report, said, values
from stories import Stories
from talk import Talk, device

from canopy.testing.fleet import TRUST_DOMAIN
from canopy.testing.processes import Process
from canopy.testing.system import System
from canopy.testing.wait import until

pytestmark = [pytest.mark.server, pytest.mark.xdist_group("identities")]
DEVICES, REPORTS_EACH = 4, 25
CATCH_UP_SECONDS = 5.0
CUT_SECONDS = 10.0
SPLIT = os.environ.get("CANOPY_TEST_SPLIT") == "1"
FIRST, SECOND = "edge-1", "edge-2"


@dataclass
class World:
    """`devices` are the first node's."""

    stories: Stories
    system: System
    devices: list[Device] = field(default_factory=list)
    _on_second: Device | None = None

    async def device(self, name: str, node: str) -> Device:
        await self.stories.create(name, on=node)
        return await provision(self.system, name, node)

    async def second(self) -> Device:
        """A device of a node that joins when this is first asked for."""
        if self._on_second is None:
            await self.system.add_node(SECOND)
            self._on_second = await self.device("far", SECOND)
        return self._on_second

    @property
    def edge(self) -> list[Process]:
        """Of the first node: one, or as many as it has units."""
        return list(self.system.node().edge.values())

    @property
    def replicas(self) -> list[Process]:
        """Of spire_integration."""
        return [self.system.unit("spire_integration", replica=number) for number in (1, 2)]

    def turned_away(self) -> int:
        """How often the hub has let in no leaf."""
        return self.system.hub.server.log.read_text().count("Leafnode connection closed: Authentication")

    async def arrived(self, keys: list[str], seconds: float, devices: list[Device] | None = None) -> float:
        """Each of the devices shows every key in its DeviceStatus; the seconds it took."""
        wanted = dict.fromkeys(keys, "1")
        taken = [self.stories.shows(one.name, wanted, seconds) for one in devices or self.devices]
        return max(await asyncio.gather(*taken))

    async def records(self, **filters: str) -> list[dict[str, Any]]:
        query = "&".join(f"{k}={v}" for k, v in filters.items())
        found: list[dict[str, Any]] = (await self.stories.api.get(f"audit?{query}"))["records"]
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("identities")
    async with (
        System(folder, split=SPLIT, replicas=2) as system,
        system.kube() as kube,
        system.api() as api,
    ):
        made = World(Stories(system, kube, api), system)
        await made.stories.prepare()
        made.devices = await asyncio.gather(*(made.device(f"d-{i}", FIRST) for i in range(DEVICES)))
        yield made


def keys_of(story: str) -> list[str]:
    return [f"{story}{i}" for i in range(REPORTS_EACH)]


async def test_while_the_edge_is_killed_and_starts_again_nothing_is_lost_and_no_device_is_cut_off(
    world: World,
) -> None:
    keys = keys_of("edge")
    async with connected(world.devices) as talks:
        await asyncio.gather(*(process.kill() for process in world.edge), *(report(talk, *keys[:8]) for talk in talks))
        await asyncio.gather(*(report(talk, *keys[8:16]) for talk in talks))
        for process in world.edge:
            process.spawn()
        await asyncio.gather(*(report(talk, *keys[16:]) for talk in talks))
        await asyncio.gather(*(process.ready() for process in world.edge))
        await world.arrived(keys, 15)
        for talk in talks:  # the same connections: they do not come back by themselves
            assert values(await talk.get()).keys() >= set(keys)


async def test_a_killed_leaf_lets_devices_in_when_devicetwin_has_its_position_and_nothing_is_lost(
    world: World,
) -> None:
    keys, leaf = keys_of("leaf"), world.system.node().leaf.server
    async with connected(world.devices) as talks:
        await asyncio.gather(*(report(talk, *keys[:8]) for talk in talks))
        await leaf.kill()
    coming = [asyncio.create_task(one.reports(keys[8:16])) for one in world.devices]
    await leaf.start()
    await asyncio.gather(*coming)

    config = world.system.home().identity / "nats.conf"
    await until(lambda: "/device/" not in config.read_text())  # it names them while the leaf reads it, just now
    await asyncio.gather(leaf.kill(), *(process.kill() for process in world.edge))
    await leaf.start()
    for one in world.devices:
        with pytest.raises(aiomqtt.MqttError, match=r"(?i)not authori[sz]ed"):
            async with one.connected():
                raise AssertionError(f"{one.name} is in, and DeviceTwin is not")
    coming = [asyncio.create_task(one.reports(keys[16:])) for one in world.devices]
    await asyncio.gather(*coming, *(process.start() for process in world.edge))
    await world.arrived(keys, 15)


async def test_a_killed_hub_comes_back_to_everybody_and_what_was_said_meanwhile_is_there_within_5_s(
    world: World,
) -> None:
    keys, hub = keys_of("hub"), world.system.hub.server
    async with connected(world.devices) as talks:
        await hub.kill()
        await asyncio.gather(*(report(talk, *keys) for talk in talks))
        await hub.start()
        await world.arrived(keys, CATCH_UP_SECONDS)
    await asyncio.gather(*(process.ready() for process in world.system.processes().values()))


async def test_one_replica_killed_is_not_noticed_and_without_any_who_is_in_goes_on_and_who_comes_waits(
    world: World,
) -> None:
    one, other = world.replicas
    await one.kill()
    _, far = await asyncio.gather(world.system.unit("cloudhub", replica=2).restart(), world.second())
    await far.reports(["joined"])
    await world.arrived(["joined"], 10, [far])

    await other.kill()
    near = world.devices[0]
    await near.reports(["alone"])
    await world.arrived(["alone"], CATCH_UP_SECONDS, [near])
    times = world.turned_away()
    await world.system.node(SECOND).leaf.server.restart(kill=True)
    await far.reports(["waiting"])
    await until(lambda: world.turned_away() > times, 20)
    assert "waiting" not in await world.stories.status(far.name)
    await one.start()
    await world.arrived(["waiting"], 15, [far])
    await other.start()


async def test_a_revoked_node_is_cut_off_and_kept_out_until_it_is_restored_and_the_audit_says_so(
    world: World,
) -> None:
    far, near, began = await world.second(), world.devices[0], time.time()
    await far.reports(["in"])
    await world.arrived(["in"], 10, [far])
    await world.stories.api.call("POST", f"nodes/{SECOND}/revoke", {"reason": "stolen"})

    async def refused() -> bool:
        found = await world.records(who=f"node/{SECOND}", outcome="refused", what="admission")
        return any("is revoked" in record["reason"] for record in found)

    await until(refused, CUT_SECONDS)
    await asyncio.gather(far.reports(["out"]), near.reports(["near"]))
    await world.arrived(["near"], CATCH_UP_SECONDS, [near])
    times = world.turned_away()
    await until(lambda: world.turned_away() > times, 20)
    assert "out" not in await world.stories.status(far.name)
    assert (await far.held())["out"] == "1"
    await world.stories.api.call("POST", f"nodes/{SECOND}/restore", {"reason": "found again"})
    await world.arrived(["out"], 15, [far])

    await until(lambda: world.records(what="restoration"))
    told = (await canopy(world, "audit", "--since", "1h", "--limit", "2000"))["records"]
    done = {(r["what"], whom) for r in told if r["outcome"] == "ok" for whom in (r["who"], r["subject"])}
    nodes, cloud = (f"spiffe://{TRUST_DOMAIN}/{what}" for what in ("node", "cloud"))
    assert done >= {(what, f"{nodes}/{node}") for what in ("join", "admission") for node in (FIRST, SECOND)}
    assert done >= {("cut", f"{nodes}/{SECOND}"), ("revocation", SECOND), ("restoration", SECOND)}
    assert done >= {("provision", f"default/{one.name}") for one in (*world.devices, far)}
    assert any(what == "admission" and who.startswith(cloud) for what, who in done)
    (revoked,) = (r for r in told if r["what"] == "revocation")
    assert revoked["reason"] == "stolen" and revoked["who"] and began - 1 < revoked["at"] / 1000 < time.time() + 1
    assert all(r["who"] and r["where"] for r in told if (r["what"], r["outcome"]) == ("admission", "ok"))


async def test_a_device_that_speaks_as_another_or_as_the_cloud_changes_no_twin(world: World) -> None:
    thief, victim = world.devices[:2]
    await victim.reports(["own"])
    before = await victim.held()
    async with thief.connected() as talk:
        own, others = talk.base, device(victim.name)
        for base in (others, own):
            for what in ("twin/cloud_updated", *(["twin/update", "state/update"] if base == others else [])):
                for qos in (0, 1, 2):
                    await talk.say_at(f"{base}/{what}", said("own", "stolen"), qos)
        await report(talk, "after")
        await until(lambda: _has(talk, "after"))
        assert values(await talk.get()).get("own") != "stolen"
    assert await victim.held() == before
    await world.arrived(["after"], 10, [thief])
    assert (await world.stories.status(victim.name))["own"] == "1"
    assert (await world.stories.status(thief.name)).get("own") != "stolen"


async def _has(talk: Talk, key: str) -> bool:
    return key in await talk.get()


async def canopy(world: World, *arguments: str) -> Any:
    """The command line's JSON."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "canopy.cli.main", *arguments, "--output", "json"],
        env={
            "PATH": "/usr/bin:/bin",
            "CANOPY_API_URL": world.system.api_url,
            "CANOPY_API_TOKEN": world.system.api_token,
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
