"""What ends with a certificate, and what does not."""

from pathlib import Path

from canopy.bus import AskFailed
from canopy.contracts.wire import Name
from canopy.edgeidentity.provision_book import MOST_ENDS, Book
from canopy.edgeidentity.provision_ends import Ends
from canopy.runtime.audit import AuditLog
from canopy.testing.clock import FrozenClock

LAMP: Name = ("default", "lamp")
ID = "spiffe://edge-1.canopy.test/device/default/lamp"


class Leaf:
    """Says whose connections were closed."""

    def __init__(self) -> None:
        self.closed, self.away, self.connections = list[str](), False, 1

    async def close(self, user: str) -> int:
        if self.away:
            raise AskFailed("away")
        self.closed.append(user)
        return self.connections


class World:
    def __init__(self, folder: Path) -> None:
        self.clock, self.leaf, self.looks = FrozenClock(1_000), Leaf(), 0
        self.book, self.audit = Book("canopy.test", "edge-1", folder / "devices.json"), AuditLog("edgeidentity")
        self.ends = Ends(self.leaf, self.book, self.audit, self.clock, 2.0, self._look)

    def _look(self) -> None:
        self.looks += 1

    def given(self, not_after: int) -> None:
        self.book.provisioned(LAMP, 1_000, not_after, "1")


async def test_connections_end_once_with_each_certificate_and_an_audit_record_says_so(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.given(5_000)
    world.given(9_000)
    await world.ends.look()
    assert world.leaf.closed == []
    await world.clock.advance(4)
    for _ in range(3):
        await world.ends.look()
    assert world.leaf.closed == [ID]
    await world.clock.advance(4)
    world.leaf.connections = 0
    await world.ends.look()
    assert world.leaf.closed == [ID, ID]
    assert [(r.what, r.who, r.subject) for r in world.audit.waiting(9)] == [("end", ID, "default/lamp")]


async def test_what_ended_while_the_leaf_or_this_unit_was_away_is_carried_out_later(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.given(5_000)
    await world.clock.advance(4)
    world.leaf.away = True
    await world.ends.look()
    again = World(tmp_path)
    await again.clock.advance(4)
    await again.ends.look()
    assert again.leaf.closed == [ID] and again.book.ended(10**9) == []


async def test_a_revoked_device_has_no_ends_left_and_many_certificates_are_bounded(tmp_path: Path) -> None:
    world = World(tmp_path)
    for n in range(MOST_ENDS + 5):
        world.given(5_000 + n)
    assert len(world.book.of(LAMP).ends) == MOST_ENDS
    world.book.revoked(LAMP, 1)
    assert world.book.ended(10**9) == []


async def test_an_app_whose_certificate_has_ended_is_no_guest_any_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.book.app("camera", 1_000, 5_000, "1")
    await world.ends.look()
    assert world.looks == 0
    await world.clock.advance(4)
    await world.ends.look()
    await world.ends.look()
    assert world.looks == 1 and world.leaf.closed == []
