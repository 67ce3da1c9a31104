"""The audit of a unit: nothing is lost over a restart, nothing grows without end."""

from pathlib import Path

import pytest

from canopy.runtime import audit as a
from canopy.runtime.audit import AuditLog
from canopy.testing.clock import FrozenClock


def test_a_record_waits_over_a_restart_until_the_cloud_has_it(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    made = AuditLog("edgeidentity", FrozenClock(), file).record("provision", who="root", subject="default/lamp")
    again = AuditLog("edgeidentity", FrozenClock(), file)
    assert again.waiting(10) == [made]
    again.sent([made])
    assert AuditLog("edgeidentity", FrozenClock(), file).unsent == 0
    assert file.stat().st_mode & 0o777 == 0o600


async def test_the_same_decision_again_is_one_record_that_is_counted() -> None:
    clock = FrozenClock()
    log = AuditLog("edgeidentity", clock)
    for _ in range(1000):
        log.record("admission", outcome="refused", who="default/lamp", where="10.0.0.9")
    (one,) = log.waiting(10)
    assert (one.count, log.unsent, log.total) == (1000, 1, 1000)
    log.sent([one])
    log.record("admission", outcome="refused", who="default/lamp", where="10.0.0.9")
    assert log.unsent == 1
    assert log.waiting(10) == []
    await clock.advance(a.AGAIN_SECONDS)
    assert [(r.id, r.count) for r in log.waiting(10)] == [(one.id, 1001)]
    await clock.advance(a.SAME_SECONDS)
    assert log.record("admission", outcome="refused", who="default/lamp", where="10.0.0.9").id != one.id


async def test_rotations_of_a_day_are_one_record_that_ends_in_the_newest_serial() -> None:
    clock = FrozenClock()
    log = AuditLog("edgeidentity", clock)
    for n in range(48):
        log.record("rotation", who="x", serial=str(n), not_after=n, same_seconds=86_400)
        await clock.advance(1800)
    assert [(r.count, r.serial, r.not_after) for r in log.waiting(9)] == [(48, "47", 47)]
    await clock.advance(1800)
    log.record("rotation", who="x", serial="48", same_seconds=86_400)
    assert log.unsent == 2


def test_one_counted_up_while_it_was_sent_is_sent_again() -> None:
    log = AuditLog("edgeidentity", FrozenClock())
    log.record("rotation", who="x")
    sent = log.waiting(10)
    log.record("rotation", who="x")
    log.sent(sent)
    assert log.unsent == 1


def test_the_bound_drops_the_oldest_and_counts_them_also_in_the_file(tmp_path: Path) -> None:
    log = AuditLog("edgeidentity", FrozenClock(), tmp_path / "audit")
    log._file._put = lambda *_: None  # type: ignore[method-assign]  # a thousand fsyncs say nothing more
    for n in range(a.KEPT_RECORDS + 7):
        log.record("rotation", who=str(n), serial=str(n))
    assert (log.unsent, log.dropped) == (a.KEPT_RECORDS, 7)
    assert log.waiting(1)[0].serial == "7"


def test_the_file_is_written_anew_before_it_holds_twice_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "audit"
    monkeypatch.setattr(a, "KEPT_RECORDS", 5)
    log = AuditLog("edgeidentity", FrozenClock(), file)
    for n in range(40):
        log.record("rotation", who=str(n), serial=str(n))
    assert len(file.read_text().splitlines()) <= 11
    assert [r.serial for r in AuditLog("edgeidentity", FrozenClock(), file).waiting(9)] == [
        "35",
        "36",
        "37",
        "38",
        "39",
    ]


def test_a_line_that_a_power_cut_broke_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "audit"
    made = AuditLog("edgeidentity", FrozenClock(), file).record("provision")
    with file.open("ab") as end:
        end.write(b'{"id": "ab')
    assert AuditLog("edgeidentity", FrozenClock(), file).waiting(10) == [made]


def test_texts_of_strangers_are_cut() -> None:
    made = AuditLog("edgeidentity", FrozenClock()).record("admission", who="x" * 10_000)
    assert len(made.who) == a.LONGEST
