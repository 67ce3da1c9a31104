"""`canopy device` and `canopy node` against a small fleet API: what is asked, shown, refused, and the exit codes."""

import json
from pathlib import Path
from typing import Any

import pytest

PATH = "/api/v1/devices/default/light"


def error(code: int, reason: str, field: str = "") -> dict[str, Any]:
    return {"error": {"code": code, "reason": reason} | ({"field": field} if field else {})}


def twin(**values: str) -> dict[str, Any]:
    sides = {
        k: {"reported": {"value": v, "timestamp": 1}, "expected": {"value": "true", "timestamp": 1}, "type": "boolean"}
        for k, v in values.items()
    }
    return {
        "namespace": "default", "name": "light", "node": "edge-1", "uid": "u", "state": "online",
        "last_online": 1, "received": 1, "revision": len(values), "twins": sides,
    }  # fmt: skip


DEVICE = {
    "namespace": "default", "name": "light", "node": "edge-1", "state": "online", "twin": twin(switch="false"),
    "properties": [{"name": "switch", "type": "BOOLEAN", "access_mode": "ReadWrite", "desired": "true"}],
}  # fmt: skip


@pytest.fixture(autouse=True)
def known(fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/devices")] = (200, {"devices": [DEVICE]})
    fleet.answers[("GET", PATH)] = (200, DEVICE)
    fleet.answers[("PUT", f"{PATH}/desired")] = (
        200,
        {"namespace": "default", "name": "light", "desired": {"switch": "true"}},
    )


def test_list_in_a_pipe_is_aligned_lines_with_a_head(canopy: Any, fleet: Any) -> None:
    ended = canopy("device", "list", *fleet.options())
    head, row = ended.out.splitlines()
    assert head.split() == ["DEVICE", "NODE", "STATE", "REPORTED"]
    assert row.split() == ["default/light", "edge-1", "online", "switch=false->true"]


def test_list_passes_on_what_to_list_only(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/devices?namespace=a&node=b")] = (200, {"devices": []})
    ended = canopy("device", "list", "-n", "a", "--node", "b", "--output", "json", *fleet.options())
    assert ended.code == 0 and json.loads(ended.out) == {"devices": []}


def test_get_shows_each_property_as_it_is_and_should_be(canopy: Any, fleet: Any) -> None:
    ended = canopy("device", "get", "light", *fleet.options())
    row = ended.out.splitlines()[2].split()
    assert row[:6] == ["switch", "BOOLEAN", "ReadWrite", "false", "true", "true"]


def test_get_of_a_device_without_a_twin_yet_works(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", PATH)] = (200, {**DEVICE, "twin": None})
    ended = canopy("device", "get", "default/light", *fleet.options())
    assert ended.code == 0 and "switch" in ended.out


def test_set_puts_the_values_and_says_so(canopy: Any, fleet: Any) -> None:
    ended = canopy("device", "set", "default/light", "switch=true", "note=a=b", *fleet.options())
    assert ended.code == 0 and "switch=true" in ended.out
    assert fleet.asked == [("PUT", f"{PATH}/desired", {"switch": "true", "note": "a=b"})]


def test_set_can_wait_until_the_device_says_so(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", f"{PATH}/twin")] = (200, twin(switch="True"))
    ended = canopy("device", "set", "light", "switch=true", "--wait", "--output", "json", *fleet.options())
    assert ended.code == 0 and json.loads(ended.out)["reported_after_seconds"] >= 0


def test_a_wait_that_is_over_says_what_the_device_says(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", f"{PATH}/twin")] = (200, twin(switch="false"))
    ended = canopy("device", "set", "light", "switch=true", "--wait", "--timeout", "0.1", *fleet.options())
    assert ended.code == 1 and "switch is false (should be true)" in ended.err


def test_a_refusal_names_the_field(canopy: Any, fleet: Any) -> None:
    fleet.answers[("PUT", f"{PATH}/desired")] = (400, error(400, "should be at most 100", "brightness"))
    ended = canopy("device", "set", "light", "brightness=900", *fleet.options())
    assert ended.code == 1 and ended.err == "canopy: brightness: should be at most 100\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "light", "switch"), "PROPERTY=VALUE is 'switch': it should be like switch=true"),
        (("set", "light", "=1"), "it should be like switch=true"),
        (("set", "light", "a=1", "a=2"), "a is set twice"),
        (("get", "a/b/c"), "it should be like default/light"),
        (("get", "/light"), "it should be like default/light"),
        (("list", "--output", "yaml"), "yaml"),
    ],
)
def test_wrong_usage_names_the_argument_and_asks_nothing(
    canopy: Any, fleet: Any, arguments: tuple[str, ...], said: str
) -> None:
    ended = canopy("device", *arguments, *fleet.options())
    assert ended.code == 2 and said in ended.err
    assert fleet.asked == []


def test_what_is_not_there_has_an_exit_code_of_its_own(canopy: Any, fleet: Any) -> None:
    ended = canopy("device", "get", "nobody", *fleet.options())
    assert ended.code == 3 and "nobody" in ended.err


def test_a_wrong_token_says_how_to_give_one(canopy: Any, fleet: Any) -> None:
    ended = canopy("device", "list", "--api-url", fleet.url, "--api-token", "wrong")
    assert ended.code == 1 and "--api-token" in ended.err


def test_who_does_not_listen_is_no_connection(canopy: Any) -> None:
    ended = canopy("device", "list", "--api-url", "http://127.0.0.1:1")
    assert ended.code == 4 and "http://127.0.0.1:1" in ended.err


def test_what_is_not_the_fleet_api_is_said_so(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/devices")] = (200, b"<html>")
    ended = canopy("device", "list", *fleet.options())
    assert ended.code == 1 and "did not answer with JSON" in ended.err
    fleet.answers[("GET", "/api/v1/devices")] = (502, b"<html>")
    ended = canopy("device", "list", *fleet.options())
    assert ended.code == 1 and "does not look like the fleet API" in ended.err


def test_without_an_address_the_demo_of_this_folder_or_one_above_is_meant(
    canopy: Any, fleet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".demo").mkdir()
    (tmp_path / ".demo/endpoints.json").write_text(json.dumps({"api_url": fleet.url, "api_token": fleet.token}))
    (tmp_path / "a/b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a/b")
    assert canopy("device", "list").code == 0


def test_without_an_address_at_all_the_ways_to_give_one_are_said(canopy: Any) -> None:
    ended = canopy("device", "list")
    assert ended.code == 4 and "CANOPY_API_URL" in ended.err and "canopy demo" in ended.err


def test_watch_shows_each_change_once_and_ends_with_what_ended_it(canopy: Any, fleet: Any) -> None:
    said = [
        ("twin", twin(a="1")),
        ("twin", twin(a="1")),
        ("synced", {}),
        ("twin", twin(a="2", b="3")),
        ("error", error(503, "no")),
    ]
    text = ": hello\n\n" + "".join(f"event: {kind}\ndata: {json.dumps(body)}\n\n" for kind, body in said)
    fleet.answers[("GET", "/api/v1/watch?namespace=default&name=light")] = (200, text.encode())
    ended = canopy("device", "watch", "light", "--output", "json", *fleet.options())
    seen = [json.loads(text)["revision"] for text in ended.out.splitlines()]
    assert seen == [1, 2] and ended.code == 1 and "no" in ended.err


def test_a_device_cannot_steer_the_terminal(canopy: Any, fleet: Any) -> None:
    fleet.answers[("GET", "/api/v1/devices")] = (200, {"devices": [{**DEVICE, "twin": twin(note="\x1b[2J\nx")}]})
    ended = canopy("device", "list", *fleet.options())
    assert "\x1b" not in ended.out and len(ended.out.splitlines()) == 2


def test_nodes_are_listed_with_what_they_are(canopy: Any, fleet: Any) -> None:
    node = {"name": "edge-1", "ready": True, "online": False, "last_heard": None, "version": "0.1"}
    fleet.answers[("GET", "/api/v1/nodes")] = (200, {"nodes": [node]})
    ended = canopy("node", "list", *fleet.options())
    assert ended.out.splitlines()[1].split() == ["edge-1", "yes", "no", "-", "0.1", "-"]


def test_the_version_is_said_for_people_and_programs(canopy: Any) -> None:
    assert canopy("version").out.startswith("canopy ")
    assert canopy("--version").out == canopy("version").out
    assert set(json.loads(canopy("version", "-o", "json").out)) == {"canopy", "protocol", "python"}
