"""The rules for Prometheus name metrics that there are, labels that these have, and runbooks that are there. The real
promtool reads them, plays them through (alerts.yaml), and reads what our units say of themselves.
"""

import re
import subprocess
from typing import Any

import pytest
import yaml
from rendering import ROOT

from canopy.contracts.measures import MEASURES
from canopy.runtime.metrics import Metrics

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


# --- by the real promtool -----------------------------------------------------------------------------------------
PROMTOOL = ROOT / "tests" / "manifests" / "promtool.sh"
PLAYED = ROOT / "tests" / "manifests" / "alerts.yaml"


@pytest.fixture(scope="module")
def promtool() -> str:
    found = subprocess.run(["bash", PROMTOOL, "--have"], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no promtool here: bash tests/manifests/promtool.sh")
    return found.stdout.strip()


def _asked(*command: str, said: str = "") -> str:
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_every_alert_is_silent_while_all_is_well_and_speaks_when_it_is_not(promtool: str) -> None:
    assert f"{len(RULES)} rules found" in _asked(
        promtool, "check", "rules", str(ROOT / "deploy/prometheus/canopy.rules.yaml")
    )
    _asked(promtool, "test", "rules", str(PLAYED))


def test_every_alert_is_played_through() -> None:
    asked = [one for test in yaml.safe_load(PLAYED.read_text())["tests"] for one in test["alert_rule_test"]]
    silent = {one["alertname"] for one in asked if not one["exp_alerts"]}
    assert silent == {one["alertname"] for one in asked if one["exp_alerts"]} == {rule["alert"] for rule in RULES}


def test_prometheus_takes_its_configuration_of_compose(promtool: str) -> None:
    _asked(promtool, "check", "config", str(ROOT / "deploy/compose/observability/prometheus.yaml"))


def test_prometheus_has_nothing_to_say_against_our_metrics(promtool: str) -> None:
    metrics = Metrics()
    for measure in MEASURES.values():
        if measure.kind == "histogram":
            metrics.histogram(measure.name).observe(1.0)
        elif measure.kind == "counter":
            metrics.counter(measure.name).add(**dict.fromkeys(measure.labels, "x"))
        else:
            metrics.gauge(measure.name).set(1.0, **dict.fromkeys(measure.labels, "x"))
    assert _asked(promtool, "check", "metrics", said=metrics.text()) == ""
