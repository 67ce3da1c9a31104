"""The stream AUDIT over a real hub: read from its end, as far back as is asked."""

import pytest

from canopy.bus.audits import BOUNDS, FIRST_SPAN, AuditReader, address_of
from canopy.bus.streams import LastValues
from canopy.contracts import catalogue as c
from canopy.contracts.identity_wire import AuditRecord
from canopy.testing.world import NODE, OTHER, World

pytestmark = pytest.mark.server


async def test_the_newest_are_found_also_far_behind_the_end_and_by_their_time(world: World) -> None:
    stream = LastValues(await world.cloud("cloudhub"), "AUDIT")
    await stream.ensure(**BOUNDS)
    reader, asked = AuditReader(stream), list[bytes]()

    def every(data: bytes) -> int:
        asked.append(data)
        return int(data)

    assert await reader.newest(c.AUDIT.wild(), every, 10) == []

    async def put(node: str, n: int) -> None:
        record = AuditRecord(id=f"{n:016x}", at=n, what="join", node=node, unit="edgeidentity")
        await stream.put(address_of(record), str(n).encode(), None)

    for n in range(3):
        await put(OTHER, n)
    for n in range(3, FIRST_SPAN + 200):
        await put(NODE, n)
    asked.clear()
    assert await reader.newest(c.AUDIT.wild(), every, 2) == [FIRST_SPAN + 198, FIRST_SPAN + 199]
    assert len(asked) == FIRST_SPAN, "no more is read than is needed"
    assert await reader.newest(c.AUDIT.wild(node=OTHER), every, 10) == [0, 1, 2]
    assert len(await reader.newest(c.AUDIT.wild(), every, 5000, since_ms=1)) == FIRST_SPAN + 200
    assert await reader.newest(c.AUDIT.wild(), every, 5, since_ms=4_000_000_000_000) == []
    await put(NODE, 5)
    assert (await reader.newest(c.AUDIT.wild(), every, 1)) == [5], "stored again at its one address"
    assert len(await reader.newest(c.AUDIT.wild(), every, 5000)) == FIRST_SPAN + 200
