"""What `canopy secrets` prints: everything that the manifests want, and nothing that was there changed."""

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from canopy.cli import secrets
from canopy.cli.failure import NO_CONNECTION, Failure

NOTHING = "echo '{\"items\": []}'"


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`kubectl(line)`: one that does just this."""

    def made(line: str) -> None:
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return made


def test_it_prints_a_list_for_kubectl(kubectl, capsys) -> None:
    kubectl(NOTHING)
    secrets.secrets()
    found = [(item["kind"], item["metadata"]["name"]) for item in json.loads(capsys.readouterr().out)["items"]]
    configs = [("ConfigMap", "canopy-hub-nkeys"), ("ConfigMap", "canopy-entries")]
    assert found == [("Secret", "canopy-hub-keys"), *configs, ("Secret", "canopy-passwords")]


def test_where_the_cluster_does_not_answer_nothing_is_printed(kubectl, capsys) -> None:
    kubectl("echo no such host >&2; exit 1")
    with pytest.raises(Failure, match="no such host") as failed:
        secrets.secrets()
    assert failed.value.code == NO_CONNECTION and capsys.readouterr().out == ""


def test_whom_spire_knows_are_the_nodes_with_the_label(kubectl, capsys) -> None:
    asked = "get nodes -l node.canopy.dev/runs-edge=true -o json"
    answer = json.dumps({"items": [{"metadata": {"name": "worker-1"}}]})
    kubectl(f"if [ \"$*\" = '{asked}' ]; then echo '{answer}'; else {NOTHING}; fi")
    secrets.secrets()
    made = {item["metadata"]["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    entries = json.loads(made["canopy-entries"]["data"]["entries.json"])
    assert [entry["path"] for entry in entries if entry["path"].startswith("/node/")] == ["/node/worker-1"]


def _secrets_of(made) -> str:
    return json.dumps({"items": [item for item in made["items"] if item["kind"] == "Secret"]})


def test_keys_that_the_cluster_has_stay_and_others_than_ours_are_refused(kubectl, capsys, tmp_path: Path) -> None:
    kubectl(NOTHING)
    secrets.secrets(trust_domain="fleet.test", hub_names="hub.example")
    made = json.loads(capsys.readouterr().out)
    (tmp_path / "held").write_text(_secrets_of(made))
    kubectl(f"if [ $2 = secrets ]; then cat {tmp_path}/held; else echo '{{\"items\": []}}'; fi")
    secrets.secrets(trust_domain="other.test", hub_names="hub.example")
    assert json.loads(capsys.readouterr().out) == made
    held = next(item for item in made["items"] if item["metadata"]["name"] == "canopy-hub-keys")
    assert set(held["data"]) == {"auth.seed", "callout.seed", "cloud.seed", "sys.seed", "join-root.pem"}
    assert "hub.example" in next(i for i in made["items"] if i["metadata"]["name"] == "canopy-entries")["data"]["first"]
    held["data"]["sys.seed"] = held["data"]["join-root.pem"]
    (tmp_path / "held").write_text(_secrets_of(made))
    with pytest.raises(Failure, match="put back the one that the nodes know"):
        secrets.secrets()


def test_passwords_are_two_begin_with_a_letter_and_those_of_an_older_release_go(kubectl, capsys) -> None:
    """nats-server reads a variable like its configuration, where 12e3 is a number."""
    data = {"redis": base64.b64encode(b"old").decode(), "cloudhub": "eA=="}
    held = {"items": [{"metadata": {"name": "canopy-passwords", "namespace": "canopy"}, "data": data}]}
    kubectl(f"if [ $2 = secrets ]; then echo '{json.dumps(held)}'; else {NOTHING}; fi")
    secrets.secrets()
    found = json.loads(capsys.readouterr().out)["items"][-1]["data"]
    assert set(found) == {"redis", "route"} and found["redis"] == data["redis"]
    assert base64.b64decode(found["route"])[:1] == b"p"
