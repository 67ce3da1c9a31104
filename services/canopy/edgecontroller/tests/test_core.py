"""When a node is there, as a table."""

from dataclasses import replace

import pytest

from canopy.contracts.wire import Presence
from canopy.edgecontroller.core import Create, Heard, NodeSeen, Plan, Renew, Rules, SetLabels, SetStatus, View, decide

NOW = 1_700_000_000_000
RULES = Rules()
PRESENCE = Presence(node="e1", at=0, session=1, version="0.1")
NODE = NodeSeen("e1", "u", True, "True", NOW - 60_000, NOW - 60_000, "canopy-0.1", {"l": "1"}, "5")
LONG = NOW - 3_600_000
UP = SetStatus(True, NOW, PRESENCE)


def view(heard_ago=None, node=NODE, renewed_ago=None, listening=LONG):
    heard = None if heard_ago is None else Heard(NOW - heard_ago, PRESENCE)
    return View(heard, node, 0 if renewed_ago is None else NOW - renewed_ago, listening)


def plan(view, labels=None, kubelet="canopy-0.1", health=None):
    return decide(view, NOW, RULES, labels or {}, kubelet, health)


def node(**changes):
    return replace(NODE, **changes)


TABLE = [
    ("a node joins", view(0, None), [Create(PRESENCE)]),
    ("a name that was heard long ago makes no Node", view(41_000, None), []),
    ("nobody was ever heard", view(None, None), []),
    ("a beat, its Lease just renewed", view(0, renewed_ago=9_000), []),
    ("a beat, its Lease older", view(0, renewed_ago=10_000), [Renew(NOW)]),
    ("the Lease is new", view(0), [Renew(NOW)]),
    ("it came back", view(0, node(ready="Unknown"), 5_000), [UP]),
    ("the Node has no condition yet", view(0, node(ready=""), 5_000), [UP]),
    ("silent for 39 s", view(39_999, renewed_ago=45_000), []),
    ("silent for 40 s", view(40_000, renewed_ago=45_000), [SetStatus(False, NOW - 40_000, PRESENCE)]),
    ("gone, and known to be", view(40_000, node(ready="Unknown"), 45_000), []),
    ("a new leader goes by the Lease: there", view(None, renewed_ago=39_000), []),
    ("a new leader goes by the Lease: gone", view(None, renewed_ago=41_000), [SetStatus(False, NOW - 41_000, None)]),
    ("who has just begun to listen says of none that it is gone", view(None, renewed_ago=99_000, listening=NOW), []),
    ("who hears nothing now says so neither", view(50_000, renewed_ago=55_000, listening=None), []),
    ("who listens since one beat says that one is there", view(0, node(ready="Unknown"), 5_000, NOW), [UP]),
    ("the heartbeat is refreshed every 5 minutes", view(0, node(heartbeat=NOW - 300_000), 5_000), [UP]),
    ("the software is another one", view(0, node(kubelet="canopy-0.0"), 5_000), [UP]),
]  # fmt: skip


@pytest.mark.parametrize(("what", "seen", "actions"), TABLE, ids=[r[0] for r in TABLE])
def test_what_is_written_about_a_node(what, seen, actions):
    """Seen to fail: `<` and `<=` of `gone_after_ms`; `last_seen` without the Lease; `_may_judge` always true;
    `renewed` not compared."""
    assert list(plan(seen).actions) == actions


def test_a_kubelets_node_of_the_same_name_is_left_alone():
    assert plan(view(0, node(managed=False)), {"l": "2"}) == Plan(foreign=True)


def test_a_label_is_set_when_the_node_has_none_or_another():
    assert plan(view(0, renewed_ago=0), {"l": "1", "m": "2"}).actions == (SetLabels({"m": "2"}),)


@pytest.mark.parametrize(
    ("what", "held", "said", "writes"),
    [
        ("a node that says nothing of its units", ("", ""), None, False),
        ("the first word", ("", ""), ("True", "all"), True),
        ("the same word", ("True", "all"), ("True", "all"), False),
        ("a unit fell silent", ("True", "all"), ("False", "mapper: silent"), True),
    ],
)
def test_the_health_of_a_nodes_units_is_written_when_it_changes(what, held, said, writes):
    assert (plan(view(0, node(health=held), 0), health=said).actions == (UP,)) == writes, what


def test_a_node_is_looked_at_when_its_silence_will_have_lasted_too_long():
    assert plan(view(10_000, renewed_ago=10_000)).next_look == NOW + 30_000
    assert plan(view(None, renewed_ago=99_000, listening=NOW - 5_000)).next_look == NOW + 20_000
    assert plan(view(41_000, node(ready="Unknown"), 41_000)).next_look is None
