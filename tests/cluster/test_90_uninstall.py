"""Claim: uninstalling leaves nothing: no object of any kind that was not there before, no folder on the node."""

import pytest
from installation import Installation, everything

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


async def test_uninstalling_leaves_nothing(canopy: Installation) -> None:
    before = canopy.before
    await canopy.uninstall()
    left = await everything() - before
    if not before:
        pytest.skip("what was there before is known to test_10_install only: run both")
    assert left == set()
