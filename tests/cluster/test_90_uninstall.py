"""Claim: uninstalling leaves nothing: no object of any kind that was not there before, no folder on the node."""

import pytest
from installation import Installation, everything
from world import until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
GONE_SECONDS = 60.0
"""Kubernetes' collector of garbage takes what belonged to something that is gone."""


async def test_uninstalling_leaves_nothing(canopy: Installation) -> None:
    before = canopy.before
    await canopy.uninstall()
    if not before:
        pytest.skip("what was there before is known to test_10_install only: run both")
    left = set[str]()

    async def nothing_left() -> bool:
        left.clear()
        left.update(await everything() - before)
        return not left

    try:
        await until("nothing is left", nothing_left, GONE_SECONDS)
    except AssertionError as e:
        raise AssertionError(f"left: {sorted(left)}") from e
