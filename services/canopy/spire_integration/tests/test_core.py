"""Who is let in, as a table."""

from dataclasses import replace

import pytest

from canopy.identity import ids
from canopy.identity.ids import FleetMember, SpiffeId
from canopy.spire_integration.core import Admitted, Believed, Facts, Refused, decide

TD, NOW = "fleet.test", 1_000_000.0
NODE = Facts(ids.node(TD, "edge-1"), serial="a1", not_after=NOW + 60.7, kind="Leafnode", type="", where="10.0.0.9")
UNIT = replace(NODE, id=ids.cloud(TD, "cloudhub"), kind="Client", type="nats")
REVOKED = {"edge-9"}


def who(facts, **changes):
    return replace(facts, **changes)


def test_a_node_comes_as_a_leaf_until_its_certificate_ends():
    decision = decide(NODE, TD, REVOKED, NOW)
    assert decision == Admitted(FleetMember("node", "edge-1"), f"spiffe://{TD}/node/edge-1", int(NOW) + 60)


@pytest.mark.parametrize("unit", ["cloudhub", "devicecontroller", "edgecontroller", "cloud"])
def test_a_cloud_unit_comes_as_a_client_of_its_name(unit):
    decision = decide(who(UNIT, id=ids.cloud(TD, unit)), TD, REVOKED, NOW)
    assert isinstance(decision, Admitted) and decision.member == FleetMember("cloud", unit)


REFUSED = [
    ("no certificate", who(NODE, id=None, problem="no client certificate"), "certificate", "no client certificate"),
    ("an authority's certificate", who(NODE, is_ca=True), "certificate", "of an authority"),
    ("a certificate that ends now", who(NODE, not_after=NOW), "expired", "has ended"),
    ("a revoked node", who(NODE, id=ids.node(TD, "edge-9")), "revoked", "canopy node restore edge-9"),
    ("another fleet's node", who(NODE, id=ids.node("other.test", "edge-1")), "stranger", "nobody in"),
    ("a node's own authority", who(NODE, id=ids.local(TD, "edge-1", "edgehub")), "stranger", "nobody in"),
    ("a device of a node", who(NODE, id=ids.device(TD, "edge-1", "default", "d")), "stranger", "nobody in"),
    ("the trust domain itself", who(NODE, id=SpiffeId(TD, "")), "stranger", "nobody in"),
    ("more than a node's name", who(NODE, id=SpiffeId(TD, "/node/edge-1/x")), "stranger", "nobody in"),
    ("a name that no node has", who(NODE, id=SpiffeId(TD, "/node/Edge_1")), "stranger", "nobody in"),
    ("the hub's certificate", who(UNIT, id=ids.hub(TD)), "stranger", "no place"),
    ("an edge unit in the fleet's domain", who(UNIT, id=ids.cloud(TD, "devicetwin")), "stranger", "no place"),
    ("spire_integration", who(UNIT, id=ids.cloud(TD, "spire_integration")), "stranger", "no place"),
    ("a node as a client", who(NODE, kind="Client", type="nats"), "kind", "comes as Client (nats)"),
    ("a node over MQTT", who(NODE, kind="Client", type="mqtt"), "kind", "comes as Client (mqtt)"),
    ("a cloud unit as a leaf", who(UNIT, kind="Leafnode", type=""), "kind", "comes as Leafnode"),
    ("a cloud unit of a nested authority", who(UNIT, between=1), "nested", "below the fleet's"),
    ("a node of a nested authority", who(NODE, between=1), "nested", "below the fleet's"),
    ("a cloud unit over a websocket", who(UNIT, type="websocket"), "kind", "a NATS client only"),
]  # fmt: skip


def test_a_nested_authority_is_believed_for_the_nodes_that_are_named_alone():
    believed, deep = Believed(nested=frozenset({"edge-1", "edge-9", "cloudhub"})), {"between": 1}
    assert isinstance(decide(who(NODE, **deep), TD, REVOKED, NOW, believed), Admitted)
    wrong = (
        who(NODE, id=ids.node(TD, "edge-2"), **deep),
        who(UNIT, **deep),
        who(NODE, id=ids.node(TD, "edge-9"), **deep),
    )
    assert [decide(one, TD, REVOKED, NOW, believed).why for one in wrong] == ["nested", "nested", "revoked"]
    assert isinstance(decide(who(UNIT, **deep), TD, REVOKED, NOW, Believed(between=1)), Admitted)


@pytest.mark.parametrize(("what", "facts", "why", "reason"), REFUSED, ids=[row[0] for row in REFUSED])
def test_who_is_refused_and_why(what, facts, why, reason):
    decision = decide(facts, TD, REVOKED, NOW)
    assert isinstance(decision, Refused) and decision.why == why and reason in decision.reason, decision
