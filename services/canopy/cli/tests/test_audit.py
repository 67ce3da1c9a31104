"""`canopy audit`: the list, its filters, and what comes."""

import json
from typing import Any

import pytest

from canopy.cli import audit as module
from canopy.cli.api import FleetApi
from canopy.cli.target import Target

RECORD = {
    "id": "ab" * 8,
    "at": 1_700_000_000_000,
    "what": "admission",
    "outcome": "refused",
    "who": "spiffe://canopy.test/node/edge-1",
    "subject": "",
    "reason": "the node edge-1 is revoked\x1b[2J",
    "where": "10.0.0.9",
    "serial": "1f",
    "not_after": 0,
    "node": "",
    "unit": "spire_integration",
    "count": 3,
    "last": 1_700_000_001_000,
}
OF_NODE = {**RECORD, "id": "cd" * 8, "what": "provision", "outcome": "ok", "node": "edge-1", "unit": "edgeidentity"}


def test_the_list_is_a_line_a_record_and_the_filters_go_with_it(canopy: Any, fleet: Any) -> None:
    path = "/api/v1/audit?limit=100&node=edge-1&who=light&outcome=refused"
    fleet.answers["GET", path] = (200, {"records": [RECORD, {**OF_NODE, "count": 1}]})
    options = ("--node", "edge-1", "--who", "light", "--outcome", "refused", *fleet.options())
    ended = canopy("audit", *options)
    assert ended.code == 0, ended.err
    head, first, second = ended.out.splitlines()
    assert head.split() == ["AT", "WHAT", "OUTCOME", "WHO", "SUBJECT", "FROM", "BY", "WHY"]
    assert "admission x3" in first and "spire_integration" in first and "\x1b" not in ended.out
    assert "edgeidentity on edge-1" in second and "provision " in second
    assert json.loads(canopy("audit", *options, "-o", "json").out)["records"][0] == RECORD


def test_a_wrong_age_says_what_would_be_right(canopy: Any, fleet: Any) -> None:
    ended = canopy("audit", "--since", "yesterday", *fleet.options())
    assert ended.code == 2 and "30m" in ended.err and fleet.asked == []


def test_whom_the_api_refuses_gets_its_words(canopy: Any, fleet: Any) -> None:
    fleet.answers["GET", "/api/v1/audit?limit=100"] = (
        403,
        {"error": {"code": 403, "reason": "the audit is for those"}},
    )
    ended = canopy("audit", *fleet.options())
    assert ended.code == 1 and "the audit is for those" in ended.err


def test_what_comes_is_shown_once_the_oldest_first_and_an_outage_is_waited_for(
    fleet: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "since_ms", lambda age: "7")
    looks: list[Any] = [[RECORD], [OF_NODE, RECORD], None, [{**RECORD, "count": 4}, OF_NODE]]
    path = "/api/v1/audit?limit=2000&late=true&since=7"
    url, pauses = fleet.url, list[float]()

    with FleetApi(Target(url, fleet.token)) as api:
        get = api.get

        def looked(where: str, **params: str) -> Any:
            if (found := looks.pop(0)) is None:
                raise module.Failure("no connection", module.NO_CONNECTION)
            fleet.answers["GET", path] = (200, {"records": found})
            return get(where, **params)

        monkeypatch.setattr(api, "get", looked)
        monkeypatch.setattr(module.time, "sleep", pauses.append)
        coming = module.followed(api, {"since": ""})
        assert [next(coming)["id"] for _ in range(2)] == [RECORD["id"], OF_NODE["id"]]
        assert next(coming)["count"] == 4
    assert pauses == [module.FOLLOW_SECONDS] * 3
