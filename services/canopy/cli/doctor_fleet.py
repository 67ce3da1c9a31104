"""What `canopy doctor` makes of the fleet's status: as `canopy status` judges it, in short. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from canopy.cli.doctor_facts import Finding, ends, listed


def fleet_findings(found: Mapping[str, Any], now: float) -> tuple[Finding, ...]:
    """`found` is the answer of GET status, with `dead_letters`, as `canopy status` judges it."""
    wrong = list(_ills(found))
    tries = ("canopy status", "canopy device why NAME, for a device")
    fleet = Finding("fleet", "ok", "all is well, says canopy status")
    if wrong:
        fleet = Finding("fleet", "wrong", listed(wrong), tries)
    if not found.get("identities_count"):
        return (fleet,)
    late = [one for one in found["identities"] if one["late"]]
    if found["identities_late"]:
        said = [f"{one['units']} of {one['node'] or 'the cloud'}: {ends(one['until'] / 1000, now)}" for one in late]
        identities = Finding(
            "identities", "wrong", f"{found['identities_late']} not renewed in time: {listed(said)}",
            ("docs/runbooks/an-identity-ends.md", "canopy doctor on that node; canopy audit --node NODE --since 24h"),
        )  # fmt: skip
        return (fleet, identities)
    first = min(found["identities"], key=lambda one: one["until"])
    text = f"{found['identities_count']}; {first['units']} of {first['node'] or 'the cloud'} first"
    return (fleet, Finding("identities", "ok", f"{text}: {ends(first['until'] / 1000, now)}"))


def _ills(found: Mapping[str, Any]) -> Iterator[str]:
    for unit in found["units"]:
        if unit["wrong"] or unit["leader"] is False:
            yield f"{unit['unit']}: {unit['wrong'] or 'nobody leads'}"
    for node in found["troubled_nodes"]:
        yield f"node {node['name']} is {node['state']} ({node['why']})"
    if count := found["troubled_devices_count"]:
        yield f"{count} devices in trouble ({listed(found['troubled_devices'])})"
    if found.get("dead_letters"):
        yield f"{found['dead_letters']} dead letters"
