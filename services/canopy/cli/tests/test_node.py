"""`canopy node`: the list with identities, tokens, revoking and restoring."""

import json
from typing import Any

import pytest

from canopy.cli.tests.conftest import error

NODE = {"name": "edge-1", "ready": True, "online": False, "last_heard": None, "version": "1", "health": {}}
IDENTITY = {"node": "edge-1", "not_after": 4_000_000_000_000, "revoked_at": 0, "reason": ""}
PATH = "/api/v1/nodes/edge-1"


@pytest.mark.parametrize(
    ("identities", "shown"),
    [
        ([IDENTITY], "2096-10-02"),
        ([{**IDENTITY, "revoked_at": 1, "reason": "stolen"}], "revoked (stolen)"),
        ([], "-"),
        (None, "-"),
    ],
)
def test_the_list_says_until_when_each_identity_lasts(canopy: Any, fleet: Any, identities: Any, shown: str) -> None:
    fleet.answers["GET", "/api/v1/nodes"] = (200, {"nodes": [NODE]})
    if identities is not None:
        fleet.answers["GET", "/api/v1/identities"] = (200, {"identities": identities})
    head, row = canopy("node", "list", *fleet.options()).out.splitlines()
    assert head.split("   ")[-1].strip() == "IDENTITY UNTIL" and shown in row
    found = json.loads(canopy("node", "list", "-o", "json", *fleet.options()).out)["nodes"]
    assert found[0]["identity"] == (identities[0] if identities else None)


def test_a_token_is_told_with_the_line_that_uses_it(canopy: Any, fleet: Any) -> None:
    made = {"node": "edge-1", "token": "canopy-join.abc", "expires_at": 4_000_000_000_000}
    fleet.answers["POST", f"{PATH}/token"] = (200, made)
    ended = canopy("node", "token", "edge-1", "--ttl", "2h", *fleet.options())
    assert ended.out.splitlines()[-1] == "  canopy join --token canopy-join.abc"
    assert json.loads(canopy("node", "token", "edge-1", "-o", "json", *fleet.options()).out) == made
    assert canopy("node", "token", "edge-1", "--quiet", *fleet.options()).out == "canopy-join.abc\n"
    assert [body for _, _, body in fleet.asked] == [{"ttl_seconds": 7200}, {"ttl_seconds": 600}, {"ttl_seconds": 600}]


def test_a_node_is_revoked_with_a_reason_and_restored(canopy: Any, fleet: Any) -> None:
    fleet.answers["POST", f"{PATH}/revoke"] = (200, {"node": "edge-1", "revoked": True})
    fleet.answers["POST", f"{PATH}/restore"] = (200, {"node": "edge-1", "revoked": False})
    assert "cut off" in canopy("node", "revoke", "edge-1", "--reason", "stolen", *fleet.options()).out
    assert "may come in" in canopy("node", "restore", "edge-1", *fleet.options()).out
    assert [body for _, _, body in fleet.asked] == [{"reason": "stolen"}, {"reason": ""}]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("token", "Edge_1"), "as in Kubernetes"),
        (("token", "edge-1", "--ttl", "soon"), "like 10m"),
        (("token", "edge-1", "--ttl", "8d"), "10s to 7d"),
        (("revoke", "edge-1"), "--reason"),
    ],
)
def test_wrong_usage_says_what_would_be_right(canopy: Any, fleet: Any, arguments: tuple[str, ...], word: str) -> None:
    ended = canopy("node", *arguments, *fleet.options())
    assert ended.code == 2 and word in ended.err and fleet.asked == []


def test_what_the_api_refuses_is_said(canopy: Any, fleet: Any) -> None:
    fleet.answers["POST", f"{PATH}/token"] = (403, error(403, "join tokens are for those who may create nodes"))
    ended = canopy("node", "token", "edge-1", *fleet.options())
    assert (ended.code, "may create nodes" in ended.err) == (1, True)
