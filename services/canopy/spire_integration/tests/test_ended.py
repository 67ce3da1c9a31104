"""From connections that ended to records: one an address and minute, the same in every replica."""

from dataclasses import replace

from canopy.bus.system import Connected
from canopy.spire_integration.ended import FAILED, refusals

ONE = Connected("HUB", 7, "Client", host="10.0.0.9", stopped="2026-11-30T09:22:40.364680984Z", reason=FAILED)


def test_handshakes_that_failed_are_one_record_an_address_and_minute():
    later = replace(ONE, cid=8, stopped="2026-11-30T09:22:59Z")
    next_minute = replace(ONE, cid=9, stopped="2026-11-30T09:23:00.1Z")
    elsewhere = replace(ONE, cid=10, host="10.0.0.8")
    found = refusals([next_minute, later, elsewhere, ONE])
    assert [(r.where, r.count, r.last > r.at) for r in found] == [
        ("10.0.0.8", 1, False),
        ("10.0.0.9", 2, True),
        ("10.0.0.9", 1, False),
    ]
    assert {r.outcome for r in found} == {"refused"} and len({r.id for r in found}) == 3
    assert refusals([ONE, later]) == [found[1]]


def test_what_ended_otherwise_or_at_no_time_is_no_refusal():
    assert refusals([replace(ONE, reason="Client Closed"), replace(ONE, stopped="")]) == []
