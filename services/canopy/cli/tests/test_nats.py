"""`canopy nats`: configurations that hold no password, or only the one that they were given."""

from pathlib import Path

import pytest

from canopy.cli import nats
from canopy.cli.failure import Failure, UsageFailure


def printed(capsys, command, *words, **options) -> str:
    command(*words, **options)
    return capsys.readouterr().out


def test_a_hub_of_three_has_three_routes_and_of_one_none(capsys) -> None:
    three = printed(capsys, nats.hub, servers=3)
    assert "routes: [$CANOPY_ROUTE_0, $CANOPY_ROUTE_1, $CANOPY_ROUTE_2]" in three
    assert "server_name: $CANOPY_SERVER_NAME" in three and "$CANOPY_PASSWORD_CLOUDHUB" in three
    assert "cluster" not in printed(capsys, nats.hub).splitlines()[7]


def test_a_leaf_reads_its_hub_from_the_environment(capsys) -> None:
    text = printed(capsys, nats.leaf, "edge-7")
    assert "url: $CANOPY_HUB_URL" in text and "no_auth_user" in text and "password: $CANOPY_PASSWORD_MAPPER" in text


def test_a_leaf_that_devices_reach_from_elsewhere_asks_for_their_password(capsys) -> None:
    text = printed(capsys, nats.leaf, "edge-7", mqtt="0.0.0.0:1883")
    assert "$CANOPY_PASSWORD_DEVICES" in text and "no_auth_user" not in text


def test_a_node_s_password_goes_only_into_a_file_that_nobody_else_reads(tmp_path: Path, capsys) -> None:
    (tmp_path / "password").write_text("p4ss\n")
    target = tmp_path / "leaf.conf"
    options = {"hub_address": "hub:7422", "password_file": str(tmp_path / "password"), "to": str(target)}
    assert printed(capsys, nats.leaf, "edge-7", **options) == ""
    assert 'url: "nats-leaf://edge-7:p4ss@hub:7422"' in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageFailure, match="NODE"):
        nats.leaf("Edge_7")
    with pytest.raises(UsageFailure, match="go together"):
        nats.leaf("edge-7", hub_address="hub:7422")
    with pytest.raises(Failure, match="canopy secrets --nodes edge-7"):
        nats.leaf("edge-7", hub_address="hub:7422", password_file=str(tmp_path / "none"))
    (tmp_path / "empty").touch()
    with pytest.raises(Failure, match="is empty"):
        nats.leaf("edge-7", hub_address="hub:7422", password_file=str(tmp_path / "empty"))
