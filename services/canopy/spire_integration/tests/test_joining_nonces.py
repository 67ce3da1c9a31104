"""Nonces are good once and shortly, and asking for them costs nothing; limits are an address's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canopy.spire_integration.joining_limits import Limits, network
from canopy.spire_integration.joining_nonces import MOST_USED, SECONDS, Nonces, TooMany
from canopy.spire_integration.tokens import Refused

NOW = 1_700_000_000_000


def test_a_nonce_is_good_once_at_every_replica_that_shares_the_key() -> None:
    one, two = Nonces(b"key"), Nonces(b"key")
    nonce = one.make(NOW)
    one.check(nonce, NOW + 1)
    two.check(nonce, NOW + 1)
    one.spend(nonce, NOW + 1)
    with pytest.raises(Refused, match="used already"):
        one.spend(nonce, NOW + 2)


def test_a_nonce_ends_and_one_of_another_key_is_none() -> None:
    nonces = Nonces(b"key")
    for made, now in ((NOW, NOW + SECONDS * 1000), (NOW, NOW - 11_000)):
        with pytest.raises(Refused, match="older than 60 s"):
            nonces.check(nonces.make(made), now)
    with pytest.raises(Refused, match="not made here"):
        nonces.check(Nonces(b"other").make(NOW), NOW)


@given(st.text(max_size=100))
def test_no_text_is_a_nonce(text: str) -> None:
    with pytest.raises(Refused):
        Nonces(b"key").check(text, NOW)


def test_a_nonce_written_another_way_is_no_second_one() -> None:
    nonces = Nonces(b"key")
    nonce = nonces.make(NOW)
    nonces.spend(nonce, NOW)
    for other in (nonce.replace("-", "+").replace("_", "/"), nonce + "\n", nonce + "====", nonce.rstrip("=")):
        with pytest.raises(Refused):
            nonces.spend(other, NOW)


def test_memory_is_bounded_by_what_was_used_and_is_free_again_when_it_is_over() -> None:
    nonces = Nonces(b"key", most_used=3)
    for _ in range(MOST_USED // 100):
        nonces.make(NOW)
    assert len(nonces) == 0
    for _ in range(3):
        nonces.spend(nonces.make(NOW), NOW)
    with pytest.raises(TooMany):
        nonces.spend(nonces.make(NOW), NOW)
    later = NOW + 70_000
    nonces.spend(nonces.make(later), later)
    assert len(nonces) == 1


def test_an_address_has_its_burst_and_then_its_pace() -> None:
    limits = Limits(per_second=2, burst=3)
    assert [limits.take("a", 0.0) for _ in range(3)] == [0, 0, 0]
    assert limits.take("a", 0.0) == pytest.approx(0.5)
    assert limits.take("b", 0.0) == 0
    assert limits.take("a", 0.5) == 0 and limits.take("a", 0.5) > 0
    assert [limits.take("a", 100.0) for _ in range(4)][:3] == [0, 0, 0]


def test_a_flood_of_addresses_is_forgotten_from_its_beginning() -> None:
    limits = Limits(per_second=1, burst=1, most=100)
    for i in range(1000):
        limits.take(f"10.0.{i // 250}.{i % 250}", float(i))
    assert limits.addresses == 100


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2"),
        ("2001:DB8:1:2::9", "2001:db8:1:2"),
        ("fe80::1%eth0", "fe80:0:0:0"),
        ("::1", ":0:0:0"),
    ],
)
def test_addresses_of_one_network_of_ipv6_count_as_one(address: str, key: str) -> None:
    assert network(address) == key
