"""`canopy nats hub`: a configuration that holds no secret."""

from pathlib import Path

from canopy.cli import nats


def printed(capsys, **options) -> str:
    nats.hub(**options)
    return capsys.readouterr().out


def test_a_hub_of_three_has_three_routes_and_of_one_none(capsys) -> None:
    three = printed(capsys, servers=3)
    assert "routes: [$CANOPY_ROUTE_0, $CANOPY_ROUTE_1, $CANOPY_ROUTE_2]" in three
    assert "server_name: $CANOPY_SERVER_NAME" in three and "password: $CANOPY_PASSWORD_ROUTE" in three
    assert "cluster" not in printed(capsys) and "password" not in printed(capsys)


def test_everybody_must_bear_a_certificate_and_is_let_in_by_the_callout(capsys) -> None:
    text = printed(capsys, identity="/etc/canopy/hub")
    assert text.count("verify: true") == 2 and text.count('ca_file: "/etc/canopy/hub/bundle.pem"') == 2
    assert "issuer: $CANOPY_NKEY_ISSUER" in text and "auth_users: [$CANOPY_NKEY_AUTH" in text


def test_a_file_in_place_of_the_screen(tmp_path: Path, capsys) -> None:
    assert printed(capsys, to=str(tmp_path / "hub.conf")) == ""
    assert (tmp_path / "hub.conf").read_text() == printed(capsys)
