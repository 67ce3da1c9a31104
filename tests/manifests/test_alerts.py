"""The rules for Prometheus name metrics that there are, labels that these have, and runbooks that are there."""

import re
from typing import Any

import pytest
import yaml
from rendering import ROOT

from canopy.contracts.measures import MEASURES

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/canopy.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_METRIC = re.compile(r"(canopy_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"by \((\w+)\)")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_is_about_metrics_that_there_are(rule: dict[str, Any]) -> None:
    found = _METRIC.findall(rule["expr"])
    assert found
    for name, selector in found:
        measure = MEASURES[name]
        labels = {pair.split("=")[0] for pair in selector.split(",") if pair} | set(_BY.findall(rule["expr"]))
        assert labels <= set(measure.labels)
        assert ("increase(" in rule["expr"] or "rate(" in rule["expr"]) == (measure.kind == "counter")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_a_rule_says_what_is_so_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    assert (ROOT / rule["annotations"]["runbook"]).is_file()
    used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert used <= {"instance", *_BY.findall(rule["expr"])}
