"""Table output and the paths of its columns."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from canopy.kubeserve import jsonpath, tables
from canopy.kubeserve.kinds import BUILTIN

NOW = datetime(2026, 1, 31, tzinfo=UTC)
CONDITIONS = {"s": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X"}], "a.b": 5, "l": [1, 2]}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".s.conditions[?(@.type=='Ready')].status", ["True"]),
        ('.s.conditions[?(@.type == "X")].status', []),
        (".s.conditions[*].type", ["Ready", "X"]),
        (".s.l[-1]", [2]),
        (".s.l[7]", []),
        (".s['a.b']", [5]),
        (r".s.a\.b", [5]),
        (".no.where", []),
    ],
)
def test_a_path_is_followed(path: str, found: list[Any]) -> None:
    assert jsonpath.known(path)
    assert jsonpath.find(CONDITIONS, path) == found


@pytest.mark.parametrize("path", ["s", ".s[", ".s..t", ".s[?(@.a>1)]", 5])
def test_a_path_that_cannot_be_read_is_known_as_such(path: Any) -> None:
    assert not jsonpath.known(path)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *(
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (125, "2m5s"),
            (1200, "20m"),
            (4 * 3600 + 60, "4h1m"),
            (8 * 3600, "8h"),
        ),
        *((50 * 3600, "2d2h"), (20 * 86400, "20d"), (800 * 86400, "2y70d"), (9 * 365 * 86400, "9y")),
    ],
)
def test_an_age_is_said_as_kubectl_says_it(seconds: int, said: str) -> None:
    assert tables.age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == said


def node(ready: str, **spec: Any) -> dict[str, Any]:
    labels = {"node-role.kubernetes.io/edge": "", "other": "x"}
    meta = {"name": "n", "labels": labels, "creationTimestamp": "2026-01-30T23:59:00Z"}
    conditions = [{"type": "Ready", "status": ready}] if ready else []
    return {"metadata": meta, "spec": spec, "status": {"conditions": conditions, "nodeInfo": {"kubeletVersion": "v1"}}}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (node("True"), "Ready"),
        (node("False"), "NotReady"),
        (node("Unknown"), "NotReady"),
        (node(""), "Unknown"),
        (node("True", unschedulable=True), "Ready,SchedulingDisabled"),
    ],
)
def test_a_node_shows_whether_it_is_ready(body: dict[str, Any], said: str) -> None:
    kind = next(k for k in BUILTIN if k.plural == "nodes")
    made = tables.table(kind, [body], "Metadata", NOW, {"resourceVersion": "5"})
    assert [c["name"] for c in made["columnDefinitions"]][:5] == ["Name", "Status", "Roles", "Age", "Version"]
    assert made["rows"][0]["cells"][:5] == ["n", said, "edge", "60s", "v1"]
    assert made["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
