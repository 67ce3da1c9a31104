"""`canopy deadletters`: the list, one, and what purging asks for."""

import json
import time
from typing import Any

import pytest

from canopy.cli.deadletters import since_ms

LETTER = {
    "id": "ab" * 8,
    "unit": "devicetwin",
    "node": "edge-1",
    "source": "$hw.events.device.default.light.twin.update",
    "error": "KeyError",
    "text": "'x'",
    "count": 3,
    "first": 1_700_000_000_000,
    "last": 1_700_000_001_000,
    "body_bytes": 12,
    "trace_id": "",
}
DETAIL = {**LETTER, "traceback": "Traceback\n  File x\nKeyError", "body": "e30=", "body_text": '{"a":\x1b[1m1}'}


def test_the_list_is_a_line_a_letter_and_the_filters_go_with_it(canopy: Any, fleet: Any) -> None:
    fleet.answers["GET", "/api/v1/deadletters?unit=devicetwin&node=edge-1&limit=100"] = (200, {"deadletters": [LETTER]})
    ended = canopy("deadletters", "--unit", "devicetwin", "--node", "edge-1", *fleet.options())
    assert ended.code == 0, ended.err
    head, line = ended.out.splitlines()
    assert head.split() == ["ID", "LAST", "COUNT", "UNIT", "NODE", "SOURCE", "ERROR"]
    assert line.startswith("ab" * 8) and "KeyError: 'x'" in line
    same = canopy("deadletters", "list", "--unit", "devicetwin", "--node", "edge-1", "-o", "json", *fleet.options())
    assert json.loads(same.out) == {"deadletters": [LETTER]}


def test_one_is_shown_with_body_and_traceback_and_steers_no_terminal(canopy: Any, fleet: Any) -> None:
    fleet.answers["GET", f"/api/v1/deadletters/{LETTER['id']}"] = (200, DETAIL)
    ended = canopy("deadletters", "show", LETTER["id"], *fleet.options())
    assert ended.code == 0 and "\x1b" not in ended.out
    assert ended.out.splitlines()[-5:] == ['  {"a": [1m1}', "traceback", "  Traceback", "    File x", "  KeyError"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("purge",), "--all"),
        (("purge", "ab" * 8, "--all"), "--all"),
        (("purge", "nonsense"), "16 hex digits"),
        (("show", "nonsense"), "16 hex digits"),
        (("list", "--since", "soon"), "30m"),
        (("--node", "edge-1", "purge", "--all"), "behind purge"),
    ],
)
def test_wrong_usage_says_what_would_be_right(canopy: Any, fleet: Any, arguments: tuple[str, ...], word: str) -> None:
    ended = canopy("deadletters", *arguments, *fleet.options())
    assert ended.code == 2 and word in ended.err and fleet.asked == []


def test_purging_says_how_many_went(canopy: Any, fleet: Any) -> None:
    fleet.answers["DELETE", "/api/v1/deadletters?unit=mapper"] = (200, {"purged": 4})
    fleet.answers["DELETE", f"/api/v1/deadletters/{LETTER['id']}"] = (200, {"purged": 1})
    assert canopy("deadletters", "purge", "--unit", "mapper", *fleet.options()).out == "purged: 4\n"
    assert canopy("deadletters", "purge", LETTER["id"], *fleet.options()).out == "purged: 1\n"


def test_an_age_is_a_time() -> None:
    assert abs(int(since_ms("2h")) - (time.time() - 7200) * 1000) < 5000 and since_ms("") == ""
