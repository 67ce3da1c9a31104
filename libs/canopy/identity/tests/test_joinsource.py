import asyncio
from pathlib import Path

from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.join import JoinSource
from canopy.identity.joinroot import at
from canopy.identity.joinstate import JoinState
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.testing.clock import FrozenClock

TD = "canopy.test"


async def test_a_machine_that_joins_late_is_its_node_a_second_later_and_nobody_is_asked(tmp_path: Path) -> None:
    clock, folder = FrozenClock(), tmp_path / "join"
    waiting = asyncio.create_task(JoinSource(folder, clock=clock).first())
    await clock.advance(600)
    authority, key, node = Builtin(tmp_path / "authority", TD, clock=clock), new_key(), ids.node(TD, "edge-7")
    minted = await authority.mint(make_csr(key, node), node, ttl_seconds=3600)
    root = at(tmp_path / "keys", TD, clock.now_ms() / 1000)
    nobody = ("https://127.0.0.1:9",)
    JoinState.begin(folder, "edge-7", nobody, root.certificate_pem).keep(
        Identity(Svid.of(minted.chain_pem, key), await authority.bundle())
    )
    await clock.advance(1)
    assert (await asyncio.wait_for(waiting, 5)).svid.id == node
