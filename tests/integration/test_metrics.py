"""What each unit serves at /metrics: all that the catalogue says, readable by Prometheus, and true after a cut."""

import httpx
import pytest
from stories import Stories
from talk import Talk

from canopy.contracts.measures import MEASURES
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS, TRUST_UNITS
from canopy.testing.exposition import Family, families
from canopy.testing.wait import until

pytestmark = pytest.mark.server
EQUAL = ("canopy_metamanager_equal_seconds", "canopy_devicetwin_equal_seconds")


async def scraped(stories: Stories, unit: str) -> dict[str, Family]:
    """The families of the process that runs a unit."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{stories.system.unit(unit).health_port}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return families(answer.text)


@pytest.mark.parametrize("unit", (*CLOUD_UNITS, *EDGE_UNITS, *TRUST_UNITS))
async def test_a_unit_serves_every_metric_of_the_catalogue_and_no_other(stories: Stories, unit: str) -> None:
    found = await scraped(stories, unit)
    wanted = {m.name for m in MEASURES.values() if m.unit in ("", unit)}
    assert wanted - found.keys() == set()
    assert found.keys() - set(MEASURES) == set()
    for name, family in found.items():
        measure = MEASURES[name]
        assert (family.kind, family.help) == (measure.kind, measure.help)
        labels = {tuple(k for k, _ in labels if k != "le") for _, labels in family.samples}
        assert labels <= {(), measure.labels}, f"{name}: {labels}"
    if stories.system.split:
        assert {MEASURES[name].unit for name in found} == {"", unit}
    assert found["process_resident_memory_bytes"].value() > 10e6


async def test_after_a_cut_and_a_rejoin_both_sets_are_equal_within_five_seconds(stories: Stories, one: Talk) -> None:
    node = stories.system.node()

    async def counts() -> dict[str, float]:
        return {name: (await scraped(stories, name.split("_")[1]))[name].value("_count") for name in EQUAL}

    before = await counts()
    await node.link.cut()
    result = await one.update({"level": {"actual": {"value": "7"}}})
    assert "code" not in result
    waiting = await scraped(stories, "devicetwin")
    assert waiting["canopy_devicetwin_states_pending"].value() >= 1
    assert waiting["canopy_devicetwin_oldest_pending_seconds"].value() >= 0
    await node.link.join()

    async def equal() -> bool:
        return all(after > before[name] for name, after in (await counts()).items())

    await until(equal, 20)
    for name in EQUAL:
        unit = name.split("_")[1]
        last = (await scraped(stories, unit))[f"canopy_{unit}_last_equal_seconds"].value()
        assert 0 < last < 5, (unit, last)
    after = await scraped(stories, "devicetwin")
    assert after["canopy_devicetwin_commit_seconds"].value("_count") >= 1
