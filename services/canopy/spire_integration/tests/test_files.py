"""Identity folders, by the real built-in authority, with a clock that the test moves."""

import pytest

from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import read_identity
from canopy.spire_integration.files import Files, wanted
from canopy.testing.clock import FrozenClock

TD = "fleet.test"


class World:
    def __init__(self, folder):
        self.root, self.clock, self.folder = folder / "files", FrozenClock(), folder
        self.files = self.replica()

    def replica(self):
        authority = Builtin(self.folder / "authority", TD, ca_ttl_seconds=36_000, clock=self.clock)
        return Files(authority, self.root, wanted(TD, 600, 3600, ("hub", "localhost")), self.clock)

    def identity(self, folder):
        return read_identity(self.root / folder)

    def serials(self):
        return {want.folder: self.identity(want.folder).svid.serial for want in wanted(TD, 1, 1, ())}


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    await world.files.turn()
    return world


async def test_the_hub_and_each_cloud_unit_have_a_folder_that_is_their_owners_only(world):
    assert str(world.identity("hub").svid.id) == f"spiffe://{TD}/hub"
    assert world.identity("cloud/cloudhub").svid.id == ids.cloud(TD, "cloudhub")
    assert {svid.id for svid in world.files.rotated()} == {want.id for want in wanted(TD, 1, 1, ())}
    assert all(path.stat().st_mode & 0o77 == 0 for path in world.root.rglob("*.pem"))


async def test_a_certificate_is_renewed_when_half_of_its_life_is_over_and_not_before(world):
    before = world.serials()
    world.files.rotated()
    await world.clock.advance(290)
    await world.files.turn()
    assert world.serials() == before and world.files.rotated() == []
    await world.clock.advance(20)
    await world.files.turn()
    assert {folder for folder, serial in world.serials().items() if serial != before[folder]} == {
        f"cloud/{unit}" for unit in ("cloudhub", "devicecontroller", "edgecontroller", "cloud", "spire_integration")
    }


async def test_a_replica_more_renews_nothing_and_tells_nothing_twice(world):
    before, other = world.serials(), world.replica()
    assert world.files.rotated() != []
    await other.turn()
    assert other.rotated() == [] and world.serials() == before


async def test_a_replica_that_finds_another_at_it_leaves_it_alone(world):
    before = world.serials()
    await world.clock.advance(2000)
    with world.replica()._locked() as mine:
        assert mine
        await world.files.turn()
        assert world.serials() == before and world.files.rotated() == []
    await world.files.turn()
    assert world.serials() != before


async def test_the_hub_is_behind_when_its_files_change_and_not_before_it_could_have_started(world):
    assert not world.files.hub_is_behind()
    await world.clock.advance(1800)
    await world.files.turn()
    assert world.files.hub_is_behind() and world.replica().hub_is_behind()
    world.files.reloaded()
    assert not world.replica().hub_is_behind()


async def test_a_new_root_comes_into_every_bundle_before_it_signs(world):
    await world.clock.advance(18_100)
    await world.files.turn()
    assert len(world.identity("hub").bundle.roots_pem) == len(world.identity("cloud/cloudhub").bundle.roots_pem) == 2
    assert world.files.hub_is_behind()
