"""The sync upward (RULES 13-14, 16-23): what is, from DeviceTwin's rows to the stream TWINS.

CloudHub decides with `next_session`, `refusal`, `judge` and `compare`; DeviceTwin with `acknowledges`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from canopy.contracts.wire import Name, ReportResult, StateEntry, StatePageAsk

Stamp = tuple[int, int]
"""(session, n): orders what one node says."""


class Verdict(Enum):
    """What CloudHub does with a report."""

    STORE = "store"
    OK = "ok"
    OLDER = "older"


@dataclass(frozen=True, slots=True)
class Stored:
    """What TWINS holds for a device: its entry, its stamp, and the sequence to expect when writing over it."""

    entry: StateEntry
    stamp: Stamp
    seq: int


def next_session(bucket: int, now_ms: int, seen: int, stamps: Iterable[Stamp]) -> int:
    """The number of a new session (RULES 13): above the bucket, what the edge has seen, and what TWINS bears."""
    return max([bucket + 1, now_ms, seen + 1, *(session + 1 for session, _ in stamps)])


def refusal(said: int, bucket: int) -> str:
    """Why a message of session `said` is not taken (RULES 14): `superseded`, `hello`, or nothing."""
    if said == bucket:
        return ""
    return "superseded" if said < bucket else "hello"


def judge(entry: StateEntry, stamp: Stamp, stored: Stored | None) -> Verdict:
    """Whether a report is stored (RULES 17, 18)."""
    if stored is None or stamp > stored.stamp:
        return Verdict.STORE
    return Verdict.OK if entry == stored.entry else Verdict.OLDER


@dataclass(frozen=True, slots=True)
class Difference:
    """What a page upward shows: devices to be sent again, and records to purge up to a sequence."""

    resend: tuple[Name, ...]
    purge: tuple[tuple[Name, int], ...]


def compare(ask: StatePageAsk, stored: Mapping[Name, Stored]) -> Difference:
    """Compare the node's entries of the asked range with what TWINS holds of that node (RULES 23)."""
    listed, stamp = {e.key: e for e in ask.entries}, (ask.session, ask.n)
    inside = [k for k in stored if (ask.start is None or k >= ask.start) and (ask.end is None or k < ask.end)]
    resend = [k for k, e in listed.items() if k not in stored or stored[k].entry != e]
    surplus = [(k, stored[k].seq) for k in inside if k not in listed and stored[k].stamp < stamp]
    return Difference(tuple(sorted(resend)), tuple(sorted(surplus)))


def acknowledges(row: StateEntry, result: ReportResult) -> bool:
    """True if `result` is of just what the row still holds (RULES 19)."""
    same = (row.key, row.uid, row.revision, row.digest) == (
        (result.namespace, result.name),
        result.uid,
        result.revision,
        result.digest,
    )
    return result.outcome == "ok" and same
