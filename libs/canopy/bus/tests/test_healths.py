"""Health of units as others see it: who is heard, who fell silent, who took whose place."""

import pytest

from canopy.bus.dispatch import Place
from canopy.bus.healths import MOST_RUNS, Gathered, Heard, by_unit, shown, wrong
from canopy.contracts.wire import UnitCheck, UnitHealth
from canopy.runtime.health import Health
from canopy.testing.clock import FrozenClock

PLACE: Place[UnitHealth] = Place({}, {}, "edge.hub.health")


def said(unit: str, run: str = "r1", wrong: str = "", **facts: str) -> UnitHealth:
    return UnitHealth(unit=unit, run=run, checks=[UnitCheck(check="c", ok=not wrong, detail=wrong)], facts=facts)


def heard(*words: tuple[float, UnitHealth]) -> dict[tuple[str, str], Heard]:
    return {(one.unit, one.run): Heard(at, round(at * 1000), one) for at, one in words}


@pytest.mark.parametrize(
    ("case", "words", "shows"),
    [
        ("who is heard is not silent", [(9.0, said("mapper"))], [("r1", 0)]),
        ("who is not heard is silent since its last word", [(1.0, said("mapper"))], [("r1", 1000)]),
        ("another run took its place", [(1.0, said("mapper")), (9.0, said("mapper", "r2"))], [("r2", 0)]),
        (
            "a mapper of another protocol takes nobody's place",
            [(1.0, said("mapper", protocol="modbus")), (9.0, said("mapper", "r2", protocol="lamp"))],
            [("r2", 0), ("r1", 1000)],
        ),
        ("of several that fell silent the last one counts", [(1.0, said("x")), (2.0, said("x", "r2"))], [("r2", 2000)]),
    ],
)
def test_each_place_shows_who_has_it(
    case: str, words: list[tuple[float, UnitHealth]], shows: list[tuple[str, int]]
) -> None:
    assert [(one.run, one.silent_since) for one in shown(heard(*words), 10.0, 5.0)] == shows, case


@pytest.mark.parametrize(
    ("health", "text"),
    [
        (said("mapper"), ""),
        (said("mapper", wrong="no driver"), "c: no driver"),
        (UnitHealth(unit="mapper"), "starting"),
        (UnitHealth(unit="mapper", silent_since=1_700_000_000_000), "silent since 2023-11-14T22:13:20Z"),
    ],
)
def test_what_is_wrong_with_a_unit_is_one_line(health: UnitHealth, text: str) -> None:
    assert wrong(health) == text
    assert by_unit([health]) == {"mapper": text or "ok"}


async def test_a_unit_that_should_be_there_and_was_never_heard_is_silent_since_we_listen() -> None:
    clock = FrozenClock()
    gathered = Gathered(clock, ("devicetwin",))
    assert gathered.units() == []
    await clock.advance(60)
    assert [(one.unit, one.silent_since) for one in gathered.units()] == [("devicetwin", 1_700_000_000_000)]
    await gathered.heard(said("devicetwin"), PLACE)
    assert [one.silent_since for one in gathered.units()] == [0]


async def test_our_own_health_stands_beside_the_others_and_all_is_bounded() -> None:
    own = Health("edgehub")
    own.set("link", False, "the link is down")
    gathered = Gathered(FrozenClock(), (), own)
    for i in range(100):
        long = UnitHealth(unit="u" * 99, run=f"r{i}", checks=[UnitCheck(check="c", detail="d" * 999)] * 99)
        await gathered.heard(long, PLACE)
    found = gathered.units()
    assert len(found) == MOST_RUNS + 1 and wrong(found[0]) == "link: the link is down"
    assert all(len(one.unit) <= 64 and len(one.checks) <= 8 and len(one.checks[0].detail) <= 200 for one in found)


async def test_in_the_cloud_the_subject_names_the_unit() -> None:
    gathered = Gathered(FrozenClock(), ())
    await gathered.heard(said("cloudhub"), Place({"unit": "edgecontroller"}, {}, "health.of.edgecontroller"))
    assert [one.unit for one in gathered.units()] == ["edgecontroller"]
