"""`canopy device why` and `canopy status` against a small fleet API: one screen, and the exit codes."""

import json
import time
from typing import Any

import pytest

from canopy.cli.why import age

PATH = "/api/v1/devices/default/light/why"
LETTERS = "/api/v1/deadletters?limit=1000"
STEPS = ("kubernetes", "controller", "link", "node", "devicetwin", "mapper", "device", "desired", "status")
SCREEN_LINES = 24


def answer(stops: str = "", exists: bool = True, **verdicts: str) -> dict[str, Any]:
    text = "property level cannot be read: " + "illegal data address " * 12
    steps = [
        {
            "step": step,
            "verdict": verdicts.get(step, "stop" if step == stops else "ok"),
            "text": text if step == stops else f"{step} is well",
            "since": 1_700_000_000_000 if step == stops else None,
            "tries": ["look", "at", "it"] if step == stops else [],
        }
        for step in STEPS
    ]
    first = next((s for s in steps if s["step"] == stops), None)
    body = {"namespace": "default", "name": "light", "exists": exists, "well": not stops}
    return {**body, "stops_at": first, "steps": steps}


def status(**changes: Any) -> dict[str, Any]:
    units = [{"unit": "devicecontroller", "replicas": 2, "leader": True, "wrong": ""}]
    found = {
        "well": True, "units": units, "nodes": {"ready": 2}, "troubled_nodes": [], "devices": {"online": 3},
        "troubled_devices": [], "troubled_devices_count": 0, "waiting": 0, "versions": {"0.1": ["edge-1"]},
    }  # fmt: skip
    return found | changes


def test_the_screen_names_the_step_that_stops_and_what_to_try(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", PATH)] = (200, answer("device"))
    ended = canopy("device", "why", "light", *fleet.options())
    lines = ended.out.splitlines()
    assert ended.code == 1 and len(lines) <= SCREEN_LINES
    assert lines[0] == "default/light: stops at device"
    assert [text.split()[0] for text in lines[2:11]] == ["ok"] * 6 + ["STOP"] + ["ok"] * 2
    assert "2023-11-1" in lines[8] and " d)" in lines[8] and lines[8].endswith("...")
    assert lines[12].startswith("It stops at device: property level cannot be read") and lines[12].endswith("address .")
    assert lines[-3:] == ["  - look", "  - at", "  - it"]


@pytest.mark.parametrize(
    ("found", "code", "head"),
    [
        (answer(), 0, "default/light: all is well"),
        (answer(mapper="unknown"), 0, "default/light: nothing stops it; not known: mapper"),
        (answer("kubernetes"), 1, "default/light: stops at kubernetes"),
        (answer("mapper", status="stop"), 1, "default/light: stops at mapper (and at status)"),
        (answer("kubernetes", exists=False), 3, "default/light: stops at kubernetes"),
    ],
)
def test_the_exit_code_says_whether_anything_stops(canopy: Any, fleet: Any, found: Any, code: int, head: str) -> None:
    fleet.answers[("GET", PATH)] = (200, found)
    ended = canopy("device", "why", "default/light", *fleet.options())
    assert (ended.code, ended.out.splitlines()[0]) == (code, head)
    ended = canopy("device", "why", "light", "--output", "json", *fleet.options())
    assert (ended.code, json.loads(ended.out)) == (code, found)


@pytest.mark.parametrize(
    ("ms", "text"), [(0, "0 s"), (119_000, "119 s"), (120_000, "2 min"), (7_200_000, "2 h"), (172_800_000, "2 d")]
)
def test_an_age_is_told_in_the_largest_unit_that_says_something(ms: int, text: str) -> None:
    assert age(ms) == text


def test_the_fleet_is_one_screen_and_exit_0_when_all_is_well(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/status")] = (200, status())
    fleet.answers[("GET", LETTERS)] = (200, {"deadletters": []})
    ended = canopy("status", *fleet.options())
    assert ended.code == 0
    head, _, unit, *rest = ended.out.splitlines()
    assert head == "all is well" and unit.split() == ["devicecontroller", "2", "yes", "well"]
    told = ["nodes: 2 ready", "devices: 3 online", "waiting at the edge: 0 states", "dead letters: 0"]
    assert rest == [*told, "versions: 0.1 everywhere"]


def test_what_is_not_well_is_named_and_is_exit_1(canopy: Any, fleet: Any) -> None:
    away = {"name": "edge-2", "state": "away", "since": 1_700_000_000_000, "why": "not heard"}
    led = [{"unit": "devicecontroller", "replicas": 1, "leader": False, "wrong": ""}]
    skew = {"0.1": ["edge-1"], "0.2": ["cloudhub"]}
    found = status(well=False, units=led, troubled_nodes=[away], troubled_devices=["default/a"], versions=skew)
    fleet.answers[("GET", "/api/v1/status")] = (200, found | {"troubled_devices_count": 1})
    ended = canopy("status", *fleet.options())
    assert ended.code == 1
    for words in ("NONE", "edge-2   away", "not heard", "1 in trouble: default/a", "0.1 (edge-1); 0.2 (cloudhub)"):
        assert words in ended.out
    assert "dead letters" not in ended.out  # this cloud keeps none


def test_how_long_identities_last_is_told_and_those_not_renewed_in_time_are_named(canopy: Any, fleet: Any) -> None:
    soon = round(time.time() * 1000) + 3 * 3_600_000
    link = {"node": "edge-1", "units": "link", "until": soon + 100_000, "late": True}
    cloud = {"node": "", "units": "cloudhub", "until": soon, "late": False}
    found = status(well=False, identities=[link, cloud], identities_count=7, identities_late=1)
    fleet.answers[("GET", "/api/v1/status")] = (200, found)
    fleet.answers[("GET", LETTERS)] = (200, {"deadletters": []})
    ended = canopy("status", *fleet.options())
    *_, told, head, late = ended.out.splitlines()
    assert ended.code == 1 and head.split() == ["IDENTITY", "NOT", "RENEWED", "OF", "LASTS", "UNTIL"]
    assert told.startswith("identities: 7, the first to end lasts until ")
    assert told.endswith("(2 h left: cloudhub of the cloud); 1 not renewed in time")
    assert late.split()[:2] == ["edge-1", "link"]


def test_a_dead_letter_is_not_well(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/status")] = (200, status())
    fleet.answers[("GET", LETTERS)] = (200, {"deadletters": [{}]})
    ended = canopy("status", "--output", "json", *fleet.options())
    found = json.loads(ended.out)
    assert ended.code == 1 and found["dead_letters"] == 1 and found["well"] is False
