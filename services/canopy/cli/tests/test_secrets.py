"""What `canopy secrets` prints: everything that the manifests want, and nothing that was there changed."""

import json
import os
import stat
from itertools import count
from pathlib import Path

import pytest

from canopy.cli import passwords, secrets
from canopy.cli.failure import Failure, UsageFailure
from canopy.cli.passwords import CLOUD_NAMESPACE, EDGE_NAMESPACE, NODES, PASSWORDS, Secrets

NOTHING = Secrets({})


def numbered():
    numbers = count(1)
    return lambda: f"p{next(numbers)}"


def wanted(there=NOTHING, nodes=(), forgotten=(), kubelets=()):
    return passwords.wanted(there, nodes, forgotten, kubelets, numbered())


def test_every_user_has_a_password_of_its_own() -> None:
    found = wanted()
    cloud, edge = found.of(CLOUD_NAMESPACE, PASSWORDS), found.of(EDGE_NAMESPACE, PASSWORDS)
    assert set(cloud) == {"cloudhub", "devicecontroller", "edgecontroller", "route", "redis"}
    assert set(edge) == {"edgehub", "metamanager", "devicetwin", "mapper", "edge", "devices"}
    assert len({*cloud.values(), *edge.values()}) == 11


def test_what_is_there_stays_and_what_is_missing_is_added() -> None:
    first = wanted(nodes=["a"])
    again = passwords.wanted(first, ["a", "b"], [], [], lambda: "new")
    assert again.of(CLOUD_NAMESPACE, PASSWORDS) == first.of(CLOUD_NAMESPACE, PASSWORDS)
    assert again.nodes == {**first.nodes, "b": "new"}


def test_a_node_that_is_not_named_again_is_still_one() -> None:
    assert set(wanted(wanted(nodes=["a"]), nodes=["b"]).nodes) == {"a", "b"}


def test_a_forgotten_node_is_nowhere_any_more() -> None:
    before = wanted(nodes=["a", "b"], kubelets=["a", "b"])
    after = wanted(before, forgotten=["a"], kubelets=["a", "b"])
    assert set(after.nodes) == {"b"} and set(after.of(EDGE_NAMESPACE, NODES)) == {"b"}
    assert '"a"' not in "".join(after.of(CLOUD_NAMESPACE, NODES).values())


def test_pods_of_the_daemonset_get_no_passwords_of_nodes_outside_of_the_cluster() -> None:
    found = wanted(nodes=["worker", "outside"], kubelets=["worker", "another"])
    assert found.of(EDGE_NAMESPACE, NODES) == {"worker": found.nodes["worker"]}


def test_the_hub_includes_one_file_for_each_of_its_accounts() -> None:
    files = {k: v for k, v in wanted(nodes=["a"]).of(CLOUD_NAMESPACE, NODES).items() if k.endswith(".conf")}
    assert len(files) == 16 and sum('user: "a"' in text for text in files.values()) == 1


def test_what_is_printed_can_be_read_again() -> None:
    found = wanted(nodes=["a"])
    assert passwords.read(passwords.manifests(found)["items"]) == found


def test_a_password_begins_with_a_letter() -> None:
    assert all(secrets._new()[0] == "p" for _ in range(50))


# --- the command, with a kubectl of ours ------------------------------------------------------------------------------
@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`kubectl(line)`: one that does just this."""

    def made(line: str) -> None:
        program = tmp_path / "kubectl"
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return made


def test_it_prints_a_list_for_kubectl_and_says_what_is_new_beside_it(kubectl, capsys) -> None:
    kubectl("echo '{\"items\": []}'")
    secrets.secrets(nodes="edge-7")
    out, err = capsys.readouterr()
    assert [s["kind"] for s in json.loads(out)["items"]] == ["Secret"] * 5 + ["ConfigMap"] * 2
    assert "edge-7" in err and "rollout restart" in err


def test_where_the_cluster_does_not_answer_nothing_is_printed(kubectl, capsys) -> None:
    kubectl("echo no such host >&2; exit 1")
    with pytest.raises(Failure, match="no such host"):
        secrets.secrets(nodes="edge-7")
    assert capsys.readouterr().out == ""


def test_keys_that_the_cluster_has_stay_and_others_than_ours_are_refused(kubectl, capsys, tmp_path: Path) -> None:
    kubectl("echo '{\"items\": []}'")
    secrets.secrets(trust_domain="fleet.test", hub_names="hub.example")
    made = json.loads(capsys.readouterr().out)
    (tmp_path / "held").write_text(json.dumps(made))
    kubectl(f"if [ $2 = secrets ]; then cat {tmp_path}/held; else echo '{{\"items\": []}}'; fi")
    secrets.secrets(trust_domain="other.test", hub_names="hub.example")
    assert json.loads(capsys.readouterr().out) == made
    held = next(item for item in made["items"] if item["metadata"]["name"] == "canopy-hub-keys")
    assert set(held["data"]) == {"auth.seed", "callout.seed", "cloud.seed", "sys.seed", "join-root.pem"}
    assert "hub.example" in next(i for i in made["items"] if i["metadata"]["name"] == "canopy-entries")["data"]["first"]
    held["data"]["sys.seed"] = held["data"]["join-root.pem"]
    (tmp_path / "held").write_text(json.dumps(made))
    with pytest.raises(Failure, match="put back the one that the nodes know"):
        secrets.secrets()


def test_a_node_that_cannot_be_one_is_refused(kubectl) -> None:
    with pytest.raises(UsageFailure, match="--nodes"):
        secrets.secrets(nodes="Edge_7")
