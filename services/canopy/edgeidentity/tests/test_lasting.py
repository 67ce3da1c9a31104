"""How long certificates last, told before it is too late; and what is waited for where there is none."""

import asyncio
import logging
from pathlib import Path

import pytest

from canopy.edgeidentity import link
from canopy.edgeidentity.folders import Folders
from canopy.edgeidentity.lasting import CHECK, Lasting
from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity, write_identity
from canopy.identity.ids import SpiffeId
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.runtime.health import Check, Health, Metrics
from canopy.testing.clock import FrozenClock

TTL = 3_600


class World:
    def __init__(self, root: Path) -> None:
        self.folders = Folders(root, root / "link", root / "store")
        self.clock, self.health, self.metrics = FrozenClock(), Health("edgeidentity"), Metrics()

    async def write(self, folder: Path, id: SpiffeId) -> None:
        authority = Builtin(folder.parent / f"{id.trust_domain}", id.trust_domain, clock=self.clock)
        key = new_key()
        minted = await authority.mint(make_csr(key, id), id, ttl_seconds=TTL)
        write_identity(folder, Identity(Svid.of(minted.chain_pem, key), await authority.bundle()))

    def check(self) -> Check:
        return next(one for one in self.health.checks if one.check == CHECK)

    def metric(self, name: str) -> float:
        lines = self.metrics.text().splitlines()
        return next(float(line.split()[-1]) for line in lines if line.startswith(f"canopy_edgeidentity_{name} "))


@pytest.fixture
async def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    await found.write(found.folders.link, ids.node("canopy.test", "edge-1"))
    await found.write(found.folders.leaf, ids.local("canopy.test", "edge-1", "leaf"))
    return found


async def test_what_is_left_is_a_metric_and_too_little_of_it_a_failed_check(world: World) -> None:
    lasting = Lasting(world.folders, world.clock, world.health, world.metrics)
    assert world.check().ok and world.metric("link_left_seconds") == TTL == world.metric("leaf_left_seconds")
    assert world.metric("root_left_seconds") == 24 * TTL
    world.clock.step(0.7 * TTL)  # it should have been renewed at half of its life
    lasting.tell()
    assert world.check().ok
    world.clock.step(0.1 * TTL)
    lasting.tell()
    assert not world.check().ok and "why is it not renewed" in world.check().detail
    await world.write(world.folders.link, ids.node("canopy.test", "edge-1"))
    lasting.read()
    assert world.check().ok and world.metric("link_left_seconds") == TTL
    world.clock.step(2 * TTL)
    lasting.tell()
    assert not world.check().ok and "the hub refuses it" in world.check().detail


async def test_a_link_that_has_no_certificate_yet_is_waited_for_with_a_line_once_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    caplog.set_level(logging.WARNING)
    waiting = asyncio.create_task(link.there(world.folders.link, "join", world.clock, 0.5))
    await world.clock.advance(119)
    assert len(caplog.records) == 2 and "canopy join" in caplog.text and not waiting.done()
    await world.write(world.folders.link, ids.node("canopy.test", "edge-1"))
    await world.clock.advance(1)
    await waiting
