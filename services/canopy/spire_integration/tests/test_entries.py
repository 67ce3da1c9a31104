"""Which entries are written and which go, as tables."""

from dataclasses import replace

import msgspec
import pytest

from canopy.identity import ids
from canopy.identity.authority import Entry
from canopy.identity.ids import SpiffeId
from canopy.spire_integration.entries import BadEntries, Plan, plan, read

TD = "fleet.test"
AGENT = SpiffeId(TD, "/agent/cloud")
UNIT = Entry(ids.cloud(TD, "cloudhub"), AGENT, ("unix:uid:1", "unix:path:/x"), (), 600)
HUB = Entry(ids.hub(TD), AGENT, ("unix:uid:2",), ("hub", "localhost"))
NODE = Entry(ids.node(TD, "edge-1"), SpiffeId(TD, "/spire/agent/x509pop/a1"), ("unix:uid:3",))
FOREIGN = Entry(SpiffeId(TD, "/billing"), AGENT, ("unix:uid:9",))
OWN = Entry(ids.cloud(TD, "spire_integration"), AGENT, ("unix:uid:8",))

PLANS = [
    ("nothing is there", [UNIT, HUB], [], set(), Plan((UNIT, HUB))),
    ("all is there, in another order", [UNIT], [replace(UNIT, selectors=UNIT.selectors[::-1])], set(), Plan()),
    ("another selector", [UNIT], [replace(UNIT, selectors=("unix:uid:1",))], set(), Plan((UNIT,))),
    ("another lifetime", [UNIT], [replace(UNIT, ttl_seconds=0)], set(), Plan((UNIT,))),
    ("another name of the hub", [HUB], [replace(HUB, dns=("hub",))], set(), Plan((HUB,))),
    ("listed no more", [UNIT], [UNIT, NODE], set(), Plan((), (NODE.id,))),
    ("a revoked node", [UNIT, NODE], [UNIT, NODE], {"edge-1"}, Plan((), (NODE.id,))),
    ("a revoked node that is not there", [NODE], [], {"edge-1"}, Plan()),
    ("a node named like a unit", [UNIT], [UNIT], {"cloudhub"}, Plan()),
    ("what others registered, and our own", [], [FOREIGN, OWN], set(), Plan()),
]


@pytest.mark.parametrize(("what", "wanted", "found", "revoked", "planned"), PLANS, ids=[row[0] for row in PLANS])
def test_what_is_done_about_entries(what, wanted, found, revoked, planned):
    assert plan(wanted, found, revoked, TD) == planned


def listed(**changes):
    one = {"path": "/cloud/cloudhub", "parent": "/agent/cloud", "selectors": ["unix:uid:1"], **changes}
    return msgspec.json.encode([one])


def test_a_file_lists_entries_of_the_fleets_trust_domain():
    (entry,) = read(listed(path="/hub", dns=["hub"], ttl_seconds=60), TD)
    assert entry == Entry(ids.hub(TD), AGENT, ("unix:uid:1",), ("hub",), 60)
    assert read(b"[]", TD) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{}", "array"),
        (listed(typo=1), "typo"),
        (listed(path="/billing"), "/hub, /cloud/UNIT"),
        (listed(path="/cloud/spire_integration"), "not spire_integration"),
        (listed(path="cloud/cloudhub"), "no SPIFFE ID"),
        (listed(selectors=[]), "selector"),
        (listed(parent=""), "agent"),
        (listed(dns=["x"]), "only the hub"),
        (listed()[:-1] + b"," + listed()[1:], "each path once"),
        (b"[" + b" " * (5 << 20) + b"]", "at most"),
    ],
)
def test_a_file_that_cannot_be_taken_says_why(text, said):
    with pytest.raises(BadEntries, match=said):
        read(text, TD)
