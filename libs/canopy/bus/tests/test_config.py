"""The servers' configurations as golden text: a widened right shows in review."""

from dataclasses import replace
from pathlib import Path

import pytest

from canopy.bus.config import (
    CLOUD,
    EDGE,
    Cluster,
    Hub,
    HubTrust,
    Leaf,
    LeafTrust,
    Variable,
    node_account,
    node_files,
    route_url,
)
from canopy.bus.rights import device_rights
from canopy.contracts.roles import CLOUD_UNITS, EDGE_UNITS
from canopy.contracts.subject import BadToken
from canopy.testing.golden import golden

GOLDEN = Path(__file__).with_name("golden")
HUB = Hub("/js", {u: u for u in (*CLOUD_UNITS, CLOUD)}, {"edge.1": "p1", "edge-2": "p2"})
LEAF = Leaf("edge.1", "/js", {u: u for u in (*EDGE_UNITS, EDGE)}, "nats-leaf://edge.1:p1@127.0.0.1:7422")

TRUST = HubTrust("/hub/svid.pem", "/hub/bundle.pem", "AISSUER", "UAUTH", "UCLOUD", "USYS")
NODE_TRUST = LeafTrust(
    *("edge.1", "canopy.test", "/leaf/svid.pem", "/leaf/bundle.pem", "/link/svid.pem", "/link/bundle.pem"),
    devices=(("spiffe://edge.1.canopy.test/device/default/a.b", device_rights("default", "a.b", "edge.1")),),
)
TRUSTED_HUB = Hub("/js", {}, {}, trust=TRUST)
TRUSTED_LEAF = Leaf("edge.1", "/js", {}, "tls://hub.example:7422", trust=NODE_TRUST)
TEXTS = {
    "hub.conf": HUB.text(),
    "leaf.conf": LEAF.text(),
    "hub-trust.conf": TRUSTED_HUB.text(),
    "leaf-trust.conf": TRUSTED_LEAF.text(),
}


@pytest.mark.parametrize(("name", "text"), TEXTS.items())
def test_a_configuration_is_the_one_that_was_reviewed(name: str, text: str) -> None:
    golden(GOLDEN / name, text + "\n")


def test_a_node_may_speak_only_as_itself() -> None:
    lines = [line for line in HUB.text().splitlines() if 'user: "edge.1"' in line]
    assert lines == [
        '      { user: "edge.1", password: "p1", permissions: { publish: ["node.edge_1.ask.>"],'
        ' subscribe: ["node.edge_1.in.>"] } }'
    ]


def test_with_certificates_nobody_has_a_password_and_nobody_is_anonymous() -> None:
    for text in (TRUSTED_HUB.text(), TRUSTED_LEAF.text()):
        assert "password" not in text and "no_auth_user" not in text
    with pytest.raises(ValueError, match="no passwords"):
        replace(HUB, trust=TRUST).text()
    with pytest.raises(ValueError, match="no passwords"):
        replace(LEAF, trust=NODE_TRUST).text()


def test_every_listener_and_the_link_ask_for_a_certificate() -> None:
    assert TRUSTED_HUB.text().count("verify: true") == 2 and TRUSTED_LEAF.text().count("verify_and_map: true") == 2
    assert TRUSTED_LEAF.text().count('cert_file: "/link/svid.pem"') == 1


def test_a_gated_leaf_differs_from_an_open_one_in_its_devices_only() -> None:
    gated = replace(TRUSTED_LEAF, trust=replace(NODE_TRUST, gated=True)).text().splitlines()
    (device,) = set(TRUSTED_LEAF.text().splitlines()) ^ set(gated)
    assert "spiffe://edge.1.canopy.test/device/default/a.b" in device and 'allowed_connection_types: ["MQTT"]' in device


def test_outside_loopback_devices_need_a_password() -> None:
    text = Leaf("n", "/js", {}, "nats-leaf://h", device_password="s3cret").text()
    assert "no_auth_user" not in text and 'password: "s3cret"' in text
    assert "no_auth_user: devices" in LEAF.text()


def test_a_server_of_a_clustered_hub_differs_from_a_single_one_in_its_name_and_its_routes_only() -> None:
    others = (route_url("hub-2:6222", "s3cret"), route_url("hub-3:6222", "s3cret"))
    one = Hub(
        HUB.store_dir, HUB.passwords, HUB.nodes, cluster=Cluster("hub-1", "0.0.0.0:6222", "s3cret", others)
    ).text()
    assert sorted(set(one.splitlines()) ^ set(HUB.text().splitlines())) == [
        '  authorization { user: route, password: "s3cret" }, routes: ["nats-route://route:s3cret@hub-2:6222",'
        ' "nats-route://route:s3cret@hub-3:6222"] }',
        'cluster { name: hub, listen: "0.0.0.0:6222", no_advertise: true,',
        'server_name: "hub-1"',
        "server_name: hub",
    ]


def test_a_leaf_is_told_of_every_server_of_its_hub() -> None:
    text = Leaf("n", "/js", {}, "nats-leaf://n:p@a:7422,nats-leaf://n:p@b:7422").text()
    assert 'urls: ["nats-leaf://n:p@a:7422", "nats-leaf://n:p@b:7422"]' in text


def test_a_password_with_quotes_stays_one_string() -> None:
    text = Hub("/js", {CLOUD: 'a"b\\c'}, {}).text()
    assert r'password: "a\"b\\c"' in text


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(BadToken):
        Leaf("a b", "/js", {}, "x").text()


def test_nodes_are_spread_over_the_accounts_for_ever_alike() -> None:
    assert node_account("edge-1") == "NODES-3"
    assert len({node_account(f"node-{i}") for i in range(500)}) == 16


def test_a_variable_is_named_and_not_quoted_wherever_it_stands() -> None:
    cluster = Cluster(Variable("NAME"), "0.0.0.0:6222", Variable("ROUTE"), (Variable("ROUTE_0"), Variable("ROUTE_1")))
    text = Hub("js", {"cloudhub": Variable("PASSWORD")}, {}, cluster=cluster).text()
    for line in ("server_name: $NAME", "password: $ROUTE }", "routes: [$ROUTE_0, $ROUTE_1]", "password: $PASSWORD,"):
        assert line in text
    assert "url: $HUB," in Leaf("n", "js", {"edge": Variable("EDGE")}, Variable("HUB")).text()


def test_the_users_of_nodes_can_stand_in_files_of_their_own() -> None:
    text = Hub("js", {}, {"edge-1": "secret"}, nodes_folder="../nodes").text()
    assert "secret" not in text and text.count('include "../nodes/NODES-') == 16
    files = node_files({"edge-1": "secret", "edge-2": "other"})
    assert len(files) == 16 and [n for n, t in files.items() if "edge-1" in t] == [f"{node_account('edge-1')}.conf"]
    assert all(
        t == "\n" for n, t in files.items() if not n.startswith((node_account("edge-1"), node_account("edge-2")))
    )
