"""The table of permissions: whole, and what wildcards cover."""

from pathlib import Path

import pytest

from canopy.bus.matrix import Peer, at_hub, at_leaf, cell, families, may, page

ROOT = Path(__file__).parents[4]
PEERS = (*at_hub(), *at_leaf())


def test_the_page_of_permissions_is_the_one_that_the_catalogue_gives() -> None:
    assert (ROOT / "docs/permissions.md").read_text() == page(), "python -m canopy.bus.matrix > docs/permissions.md"


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_no_right_is_left_out_of_the_table(peer: Peer) -> None:
    addresses = [family.address for family in families()]
    own_inbox = tuple(f"_INBOX.{unit}." for unit in (p.name for p in PEERS))
    for allowed in (*peer.rights.publish, *peer.rights.subscribe):
        shown = any(may([allowed], address) for address in addresses) or allowed.startswith(own_inbox)
        assert shown or allowed.startswith("$SYS."), f"{peer.name}: {allowed} is in no row"


def test_nobody_may_speak_for_another_node_or_device() -> None:
    for peer in (p for p in PEERS if p.name in ("a node", "a device")):
        assert [f.address for f in families() if f.another and cell(peer, f)] == []


def test_an_app_says_nothing() -> None:
    (app,) = (p for p in PEERS if p.name == "an app")
    assert [f.address for f in families() if "p" in cell(app, f)] == []


@pytest.mark.parametrize(
    ("allowed", "asked", "covered"),
    [
        ("a.b", "a.b", True),
        ("a.*", "a.b", True),
        ("a.>", "a.b.c", True),
        ("a.>", "a", False),
        ("a.*", "a.b.c", False),
        ("a.*", "a.>", False),
        ("a.b", "a.*", False),
        ("a.*", "a.*", True),
        ("a.>", "a.>", True),
        (">", "a.*.c", True),
        ("a.*.c", "a.>", False),
        ("a.b", "a.b.c", False),
    ],
)
def test_an_allow_list_covers_no_more_than_the_server_says(allowed: str, asked: str, covered: bool) -> None:
    assert may([allowed], asked) is covered
