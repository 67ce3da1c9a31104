"""The servers' configurations as golden text: a widened right shows in review."""

from dataclasses import replace
from pathlib import Path

import pytest

from canopy.bus.config import (
    Cluster,
    Hub,
    HubTrust,
    Leaf,
    LeafTrust,
    Variable,
    node_account,
    route_url,
)
from canopy.bus.rights import device_rights
from canopy.contracts.subject import BadToken
from canopy.testing.golden import golden

GOLDEN = Path(__file__).with_name("golden")
TRUST = HubTrust("/hub/svid.pem", "/hub/bundle.pem", "AISSUER", "UAUTH", "UCLOUD", "USYS")
NODE_TRUST = LeafTrust(
    *("edge.1", "canopy.test", "/leaf/svid.pem", "/leaf/bundle.pem", "/link/svid.pem", "/link/bundle.pem"),
    devices=(("spiffe://edge.1.canopy.test/device/default/a.b", device_rights("default", "a.b", "edge.1")),),
)
HUB = Hub("/js", TRUST)
LEAF = Leaf("/js", "tls://hub.example:7422", NODE_TRUST)


@pytest.mark.parametrize(("name", "text"), [("hub.conf", HUB.text()), ("leaf.conf", LEAF.text())])
def test_a_configuration_is_the_one_that_was_reviewed(name: str, text: str) -> None:
    golden(GOLDEN / name, text + "\n")


def test_nobody_has_a_password_and_nobody_is_anonymous() -> None:
    for text in (HUB.text(), LEAF.text()):
        assert "password" not in text and "no_auth_user" not in text


def test_every_listener_and_the_link_ask_for_a_certificate() -> None:
    assert HUB.text().count("verify: true") == 2 and LEAF.text().count("verify_and_map: true") == 2
    assert LEAF.text().count('cert_file: "/link/svid.pem"') == 1


def test_a_gated_leaf_differs_from_an_open_one_in_its_devices_only() -> None:
    gated = replace(LEAF, trust=replace(NODE_TRUST, gated=True)).text().splitlines()
    (device,) = set(LEAF.text().splitlines()) ^ set(gated)
    assert "spiffe://edge.1.canopy.test/device/default/a.b" in device and 'allowed_connection_types: ["MQTT"]' in device


def test_a_server_of_a_clustered_hub_differs_from_a_single_one_in_its_name_and_its_routes_only() -> None:
    others = (route_url("hub-2:6222", "s3cret"), route_url("hub-3:6222", "s3cret"))
    one = replace(HUB, cluster=Cluster("hub-1", "0.0.0.0:6222", "s3cret", others)).text()
    assert sorted(set(one.splitlines()) ^ set(HUB.text().splitlines())) == [
        '  authorization { user: route, password: "s3cret" }, routes: ["nats-route://route:s3cret@hub-2:6222",'
        ' "nats-route://route:s3cret@hub-3:6222"] }',
        f"  {TRUST.tls()}",
        'cluster { name: hub, listen: "0.0.0.0:6222", no_advertise: true,',
        'server_name: "hub-1"',
        "server_name: hub",
    ]


def test_a_leaf_is_told_of_every_server_of_its_hub() -> None:
    text = replace(LEAF, hub_url="tls://a:7422,tls://b:7422").text()
    assert 'urls: ["tls://a:7422", "tls://b:7422"]' in text


def test_a_password_with_quotes_stays_one_string() -> None:
    text = replace(HUB, cluster=Cluster("hub-1", "0.0.0.0:6222", 'a"b\\c', ())).text()
    assert r'password: "a\"b\\c"' in text


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(BadToken):
        replace(LEAF, trust=replace(NODE_TRUST, node="a b")).text()


def test_nodes_are_spread_over_the_accounts_for_ever_alike() -> None:
    assert node_account("edge-1") == "NODES-3"
    assert len({node_account(f"node-{i}") for i in range(500)}) == 16


def test_a_variable_is_named_and_not_quoted_wherever_it_stands() -> None:
    cluster = Cluster(Variable("NAME"), "0.0.0.0:6222", Variable("ROUTE"), (Variable("ROUTE_0"), Variable("ROUTE_1")))
    text = replace(HUB, trust=replace(TRUST, issuer=Variable("ISSUER")), cluster=cluster).text()
    for line in ("server_name: $NAME", "password: $ROUTE }", "routes: [$ROUTE_0, $ROUTE_1]", "issuer: $ISSUER,"):
        assert line in text
