"""Who may join and renew: tables of what is known and what is decided."""

import pytest

from canopy.contracts.identity_wire import NodeIdentity
from canopy.spire_integration.joining_core import MANUFACTURER, joined, minted, named, renewable, revoked
from canopy.spire_integration.tokens import Refused

NOW = 1_700_000_000_000
GRACE_MS = 60_000
EDGE = NodeIdentity(node="edge-1", public_key="key", joined_at=NOW - 5000, by="token a", not_after=NOW)
CUT = NodeIdentity(node="edge-1", public_key="key", not_after=NOW, revoked_at=NOW - 1, reason="stolen")
MADE_BY = MANUFACTURER + "acme 7"


def test_a_new_machine_takes_the_place_of_the_one_before() -> None:
    assert joined(None, "edge-1", "key", "token b", NOW) == NodeIdentity(
        node="edge-1", public_key="key", joined_at=NOW, by="token b"
    )
    assert joined(EDGE, "edge-1", "other", "token b", NOW).public_key == "other"
    assert minted(EDGE, NOW + 9, "7") == NodeIdentity(
        node="edge-1", public_key="key", joined_at=NOW - 5000, by="token a", not_after=NOW + 9, serial="7"
    )


def test_a_manufacturers_certificate_takes_no_place_that_an_operator_gave() -> None:
    with pytest.raises(Refused, match="canopy node token edge-1"):
        joined(EDGE, "edge-1", "other", MADE_BY, NOW)
    assert joined(joined(None, "edge-1", "key", MADE_BY, NOW), "edge-1", "other", MADE_BY, NOW).public_key == "other"
    restored = NodeIdentity(node="edge-1")  # revoked and let in again before it ever joined
    assert joined(restored, "edge-1", "key", MADE_BY, NOW).public_key == "key"
    with pytest.raises(Refused, match="another way"):
        joined(joined(None, "edge-1", "key", MADE_BY, NOW), "edge-1", "other", MANUFACTURER + "acme 8", NOW)


@pytest.mark.parametrize(
    ("known", "proven", "after_ms", "error", "words"),
    [
        (None, True, 0, "unknown", "no node edge-1 with this key"),
        (EDGE, False, 0, "unknown", "no node edge-1 with this key"),
        (CUT, False, 0, "unknown", "no node edge-1 with this key"),
        (CUT, True, 0, "revoked", r"revoked at 2023-11-14T22:13:19Z \(stolen\)"),
        (EDGE, True, GRACE_MS + 1, "late", "ended at 2023-11-14T22:13:20Z, longer ago than the grace of 60 s"),
        (CUT, True, GRACE_MS + 1, "revoked", "canopy node restore edge-1"),
    ],
)
def test_a_renewal_is_refused_with_words_that_say_why(
    known: NodeIdentity | None, proven: bool, after_ms: int, error: str, words: str
) -> None:
    with pytest.raises(Refused, match=words) as refused:
        renewable(known, "edge-1", proven, GRACE_MS, NOW + after_ms)
    assert refused.value.error == error


@pytest.mark.parametrize("after_ms", [-10_000, 0, 1, GRACE_MS])
def test_a_renewal_is_let_through_until_the_grace_is_over(after_ms: int) -> None:
    assert renewable(EDGE, "edge-1", True, GRACE_MS, NOW + after_ms) is EDGE


def test_a_node_that_is_cut_neither_joins_nor_gets_a_token() -> None:
    with pytest.raises(Refused, match="stolen"):
        joined(CUT, "edge-1", "other", "token b", NOW)
    why = revoked(CUT, "edge-1")
    assert why is not None and why.error == "revoked"
    assert revoked(EDGE, "edge-1") is None and revoked(None, "edge-1") is None


@pytest.mark.parametrize(
    ("pattern", "facts", "name"),
    [
        ("{cn}", {"cn": "edge-1"}, "edge-1"),
        ("edge-{serial}", {"serial": "AB12"}, "edge-ab12"),
        ("{dns}", {"cn": "x y", "dns": "edge.1"}, "edge.1"),
    ],
)
def test_a_manufacturers_certificate_names_one_node(pattern: str, facts: dict[str, str], name: str) -> None:
    assert named(pattern, facts) == name


@pytest.mark.parametrize("facts", [{}, {"cn": ""}, {"cn": "a b"}, {"cn": "../x"}, {"cn": "{cn}"}, {"cn": "é"}])
def test_a_certificate_that_makes_no_name_is_refused(facts: dict[str, str]) -> None:
    with pytest.raises(Refused):
        named("{cn}", facts)
