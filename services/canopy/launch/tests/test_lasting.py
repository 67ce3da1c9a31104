"""How long a certificate lasts, as a process says it."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from canopy.identity import ids
from canopy.identity.builtin import Builtin
from canopy.identity.identity import Identity
from canopy.identity.svid import Svid, make_csr, new_key
from canopy.launch.lasting import Lasting
from canopy.runtime.health import Health
from canopy.testing.clock import FrozenClock

ID = ids.cloud("canopy.test", "cloudhub")


async def _identity(folder: Path, clock: FrozenClock) -> Identity:
    authority, key = Builtin(folder, "canopy.test", clock=clock), new_key()
    minted = await authority.mint(make_csr(key, ID), ID, ttl_seconds=1000)
    return Identity(Svid.of(minted.chain_pem, key), await authority.bundle())


@pytest.mark.parametrize(("passed", "ok", "warned"), [(0.0, True, False), (800.0, True, True), (1001.0, False, True)])
async def test_a_certificate_that_is_not_renewed_warns_before_it_makes_a_unit_unready(
    passed: float, ok: bool, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, health = FrozenClock(), Health("cloudhub")
    lasting = Lasting([health], clock)
    connection: Any = SimpleNamespace(identity=await _identity(tmp_path, clock))
    lasting.connection = connection
    clock.step(passed)
    with caplog.at_level(logging.WARNING):
        lasting.look()
    assert [c.ok for c in health.checks] == [ok]
    assert ("has not been renewed" in caplog.text) == warned
    assert lasting.left()[str(ID)] == pytest.approx(1000 - passed, abs=2)
    assert lasting.late() == {str(ID): float(warned)}


def test_a_process_without_an_identity_says_nothing_of_it() -> None:
    health = Health("cloudhub")
    lasting = Lasting([health], FrozenClock())
    lasting.look()
    assert health.checks == () and lasting.left() == {} and lasting.late() == {}
