"""Who may come in, and what is remembered of it over a restart."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from canopy.contracts.wire import AsOf, Entry, Name, Put
from canopy.edgeidentity.core import Guest
from canopy.edgeidentity.memory import Memory
from canopy.edgeidentity.roster import Roster
from canopy.identity import ids
from canopy.identity.ids import SpiffeId

LIGHT, LAMP = ("default", "light"), ("default", "lamp")
AT = AsOf(epoch=1, revisions={"Device": 7})


class World:
    """A roster on a file; `generation` is what a revocation raises."""

    def __init__(self, path: Path) -> None:
        self.path, self.generation = path, 0
        self.said: list[Any] = []
        self.again()

    def again(self) -> None:
        self.memory = Memory(self.path)
        self.roster = Roster(self.memory, self.identity, self.said.append)

    def identity(self, name: Name) -> SpiffeId:
        first = ids.device("canopy.test", "edge-1", *name)
        return SpiffeId(first.trust_domain, f"{first.path}/{self.generation}") if self.generation else first

    def guest(self, name: Name) -> Guest:
        return Guest(*name, str(self.identity(name)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "gate.json")


def puts(*names: Name) -> list[Put]:
    every = [*(("Device", *name) for name in names), ("DeviceModel", "default", "thing")]
    return [Put(Entry(*key, "u", b"d" * 8), msgspec.Raw(b"{}")) for key in every]


def test_nobody_is_invited_before_a_proven_set_was_read_once(world: World) -> None:
    world.roster.look()
    assert world.said == [] and world.roster.as_of is None
    world.roster.take(puts(), AT)
    assert world.said == [frozenset()], "an empty set is one"


def test_devices_of_the_set_are_invited_and_models_are_not(world: World) -> None:
    world.roster.take(puts(LIGHT, LAMP), AT)
    assert world.said[-1] == {world.guest(LIGHT), world.guest(LAMP)}
    world.roster.take(puts(LIGHT), AT)
    assert world.said[-1] == {world.guest(LIGHT)}


def test_a_restart_invites_whom_it_did_before(world: World) -> None:
    world.roster.take(puts(LIGHT), AsOf(epoch=3, revisions={"Device": 7}))
    world.said.clear()
    world.again()
    world.roster.look()
    assert world.said == [{world.guest(LIGHT)}]
    assert world.roster.as_of == AsOf(epoch=3, revisions={"Device": 7})


def test_a_revoked_device_stays_out_until_it_is_given_something_new(world: World) -> None:
    world.roster.take(puts(LIGHT, LAMP), AT)
    world.roster.revoke(LIGHT)
    assert world.said[-1] == {world.guest(LAMP)} and LIGHT in world.roster.listed
    world.again()
    world.roster.take(puts(LIGHT, LAMP), AT)
    assert world.said[-1] == {world.guest(LAMP)}
    world.generation = 1
    world.roster.restore(LIGHT)
    assert world.said[-1] == {world.guest(LIGHT), world.guest(LAMP)}
    assert world.guest(LIGHT).id.endswith("/1")


def test_a_file_that_cannot_be_read_is_begun_anew(world: World) -> None:
    world.roster.take(puts(LIGHT), AT)
    world.path.write_bytes(b"{torn")
    world.said.clear()
    world.again()
    world.roster.look()
    assert world.said == [], "devices wait for MetaManager"
