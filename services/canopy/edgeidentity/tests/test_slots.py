"""Which identities stand in files, and when each is renewed."""

import pytest

from canopy.contracts.roles import EDGE_UNITS
from canopy.edgeidentity.slots import Lasts, due, renew_at, slots

HOUR = Lasts(990.0, 4_600.0)
"""Made at 1,000: its beginning lies ten seconds before."""
TTL = 3_600.0


def test_the_leaf_and_every_unit_have_an_identity_of_the_nodes_own_domain() -> None:
    found = {slot.folder: slot for slot in slots("canopy.test", "edge.1")}
    others = {"leaf", "units/edge", "units/edgeidentity", "units/system"}
    assert set(found) == others | {f"units/{unit}" for unit in EDGE_UNITS}
    assert str(found["units/mapper"].id) == "spiffe://edge.1.canopy.test/mapper"


def test_only_the_leaf_has_names_besides() -> None:
    leaf, *units = slots("canopy.test", "edge-1", ("gate.site", "10.0.0.7", "edge-1"))
    assert leaf.dns == ("localhost", "edge-1", "gate.site")
    assert leaf.ips == ("127.0.0.1", "::1", "10.0.0.7")
    assert not any(unit.dns or unit.ips for unit in units)


@pytest.mark.parametrize(
    ("lasts", "now", "expected"),
    [
        pytest.param(None, 0.0, True, id="nothing is there"),
        pytest.param(HOUR, 1_000.0, False, id="fresh"),
        pytest.param(HOUR, 2_799.0, False, id="before its half"),
        pytest.param(HOUR, 2_800.0, True, id="at its half"),
        pytest.param(HOUR, 9_999.0, True, id="expired, offline or off for long"),
        pytest.param(HOUR, 989.0, True, id="the clock was set back"),
    ],
)
def test_a_certificate_is_renewed_at_half_of_its_life(lasts: Lasts | None, now: float, expected: bool) -> None:
    assert due(lasts, TTL, 0.5, now) is expected


def test_what_began_together_is_not_renewed_together() -> None:
    assert renew_at(HOUR, TTL, 0.0) == pytest.approx(2_440) and renew_at(HOUR, TTL, 1.0) == pytest.approx(3_160)
