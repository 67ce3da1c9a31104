"""Lines as nats-server 2.15.1 wrote them, and what they say."""

import pytest

from canopy.bus.serverlog import refusal
from canopy.runtime.audit import AuditLog
from canopy.runtime.metrics import Metrics
from canopy.runtime.tail import Tail
from canopy.spire_integration.counts import Counts
from canopy.spire_integration.tailing import Tailing
from canopy.testing.clock import FrozenClock

SHA = "3788a3767766285a1a083b0fff1a23c0ac2c482a413e3c160fec69944f8a2bc8"
AT = "[2205] 2026/11/30 09:22:26.168486 [ERR] 10.1.0.9:43924 - "
BARE = "handshake error: tls:"
FAILED = f"{BARE} failed to verify certificate: x509: certificate"
FOREIGN = (
    f"{AT}lid:18 - TLS leafnode {FAILED} signed by unknown "
    'authority (possibly because of "x509: ECDSA verification failure" while trying to verify candidate '
    f'authority certificate "ca") ( SHA-256: {SHA})'
)
EXPIRED = (
    f"{AT}cid:13 - TLS {FAILED} has expired or is not yet "
    f"valid: current time 2026-11-30T09:22:40Z is after 2026-11-30T09:22:24Z ( SHA-256: {SHA}; CN=ca SHA-256: 00)"
)
LINES = [
    (FOREIGN, "a leaf: its certificate is of another authority, or signed by itself", SHA),
    (EXPIRED, "a client: its certificate has ended, or does not hold yet", SHA),
    (f"{AT}cid:1 - TLS {BARE} client didn't provide a certificate", "a client: no client certificate", ""),
    (f"{AT}cid:9 - TLS {BARE} something new", "a client: tls: something new", ""),
]  # fmt: skip


@pytest.mark.parametrize(("line", "reason", "sha"), LINES, ids=["foreign", "expired", "none", "new"])
def test_a_refused_handshake_says_from_where_and_why(line, reason, sha):
    found = refusal(line)
    assert found is not None and (found.where, found.reason, found.certificate) == ("10.1.0.9", reason, sha)


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"{AT}cid:15 - TLS handshake error: EOF",
        f"{AT}cid:15 - TLS handshake error: read tcp 127.0.0.1:4222->127.0.0.1:5: read: connection reset by peer",
        "[2205] 2026/11/30 09:22:26.168486 [INF] 10.1.0.9:43924 - lid:18 - Leafnode connection created",
        f"{AT}cid:15 - maximum connections exceeded",
    ],
)
def test_what_refuses_nobody_says_nothing(line):
    assert refusal(line) is None


def test_an_address_of_ipv6_is_read():
    assert refusal(FOREIGN.replace("10.1.0.9:", "[fd00::9]:")).where == "fd00::9"


def test_a_log_is_followed_from_its_end_over_rotation_and_emptying(tmp_path):
    path = tmp_path / "hub.log"
    path.write_text("old\n")
    tail = Tail(path)
    assert list(tail.lines()) == []
    with path.open("a") as file:
        file.write("one\nhal")
    assert list(tail.lines()) == ["one"]
    with path.open("a") as file:
        file.write("f\nlast of the old\n")
    path.rename(tmp_path / "hub.log.1")
    path.write_text("new\n")
    assert list(tail.lines()) == ["half", "last of the old"]
    assert list(tail.lines()) == ["new"]
    path.write_text("")
    assert list(tail.lines()) == []
    with path.open("a") as file:
        file.write("after\n")
    assert list(tail.lines()) == ["after"]
    tail.close()


def test_a_log_that_is_not_there_yet_is_read_from_its_beginning(tmp_path):
    tail = Tail(tmp_path / "hub.log")
    assert list(tail.lines()) == []
    (tmp_path / "hub.log").write_text("first\n")
    assert list(tail.lines()) == ["first"]
    tail.close()


def test_a_thousand_refusals_from_one_address_are_one_record_with_their_number(tmp_path):
    audit, metrics = AuditLog("spire_integration", FrozenClock()), Metrics()
    tailing = Tailing(tmp_path / "hub.log", audit, Counts.of(metrics), FrozenClock())
    for _ in range(1000):
        tailing._heard(FOREIGN)
    (record,) = audit.waiting(9)
    assert (record.outcome, record.where, record.who, record.count) == ("refused", "10.1.0.9", f"sha256:{SHA}", 1000)
    assert 'refusals_total{why="tls"} 1000' in metrics.text()
