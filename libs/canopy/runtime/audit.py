"""The audit of one unit: who was let in or refused, given or deprived of an identity, kept until the cloud has it.

Whoever decides calls `record`; `canopy.bus.audits` sends. The same decision again within a minute is the same record
with a higher count, so that who knocks a thousand times fills no table. Bounded; what the bound drops is counted.
"""

import secrets
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from canopy.contracts.identity_wire import AuditRecord
from canopy.runtime.auditfile import AuditFile
from canopy.runtime.clock import Clock, SystemClock

KEPT_RECORDS = 1_000
"""That the cloud does not have yet: weeks of a quiet node that is away."""
SAME_SECONDS = 60.0
KNOWN_DECISIONS = 200
AGAIN_SECONDS = 10.0
"""Between two sendings of one record whose count rises."""
ID_BYTES = 8
LONGEST = 512
"""Characters of each text of a record."""
_TEXTS = ("what", "outcome", "who", "subject", "reason", "where", "serial")

Decision = tuple[str, ...]


class AuditLog:
    """One unit's. Not for several threads. `file` None: kept in memory only."""

    def __init__(self, unit: str, clock: Clock | None = None, file: Path | None = None) -> None:
        self.unit, self._clock, self._file = unit, clock or SystemClock(), AuditFile(file)
        self._unsent: OrderedDict[str, AuditRecord] = OrderedDict()
        self._due: dict[str, float] = {}
        self._recent: OrderedDict[Decision, AuditRecord] = OrderedDict()
        self.total = self.dropped = 0
        for record in self._file.read():
            self._unsent[record.id] = record
        self._bound()

    @property
    def unsent(self) -> int:
        """How many the cloud does not have as they are now."""
        return len(self._unsent)

    def record(
        self,
        what: str,
        *,
        outcome: str = "ok",
        who: str = "",
        subject: str = "",
        reason: str = "",
        where: str = "",
        serial: str = "",
        not_after: int = 0,
        same_seconds: float = SAME_SECONDS,
    ) -> AuditRecord:
        """A decision, on the disk when this returns. What was decided within `same_seconds` already (0: each is one of
        its own), but for serial and end, counts that record up: in memory, and at the cloud a little later."""
        now = self._clock.now_ms()
        made = AuditRecord(
            id=secrets.token_hex(ID_BYTES), at=now, what=what, outcome=outcome, who=who, subject=subject,
            reason=reason, where=where, serial=serial, not_after=not_after, unit=self.unit,
        )  # fmt: skip
        made = replace(made, **{name: getattr(made, name)[:LONGEST] for name in _TEXTS})
        self.total += 1
        if (known := self._again(made, same_seconds)) is not None:
            return known
        self._keep(made)
        self._file.append(made)
        self._bound()
        return made

    def waiting(self, most: int) -> list[AuditRecord]:
        """Records to be sent now, the oldest first."""
        now = self._clock.monotonic()
        return [one for id, one in self._unsent.items() if self._due.get(id, 0.0) <= now][:most]

    def sent(self, records: Iterable[AuditRecord]) -> None:
        """The cloud has them. One that was counted up meanwhile is sent again, later."""
        for record in records:
            if self._unsent.get(record.id) == record:
                del self._unsent[record.id]
                self._due.pop(record.id, None)
            elif record.id in self._unsent:
                self._due[record.id] = self._clock.monotonic() + AGAIN_SECONDS
        self._file.tidy(list(self._unsent.values()), KEPT_RECORDS)

    def _again(self, made: AuditRecord, same_seconds: float) -> AuditRecord | None:
        decision = _decision(made)
        known = self._recent.get(decision)
        if known is None or not same_seconds or made.at - known.at > same_seconds * 1000 or made.at < known.at:
            return None
        newest = {"serial": made.serial, "not_after": made.not_after}
        counted = replace(known, count=known.count + 1, last=made.at, **newest)
        self._recent[decision] = counted
        if known.id not in self._unsent:
            self._due[known.id] = self._clock.monotonic() + AGAIN_SECONDS
        self._unsent[known.id] = counted
        self._bound()
        return counted

    def _keep(self, record: AuditRecord) -> None:
        self._unsent[record.id] = self._recent[_decision(record)] = record
        while len(self._recent) > KNOWN_DECISIONS:
            self._recent.popitem(last=False)

    def _bound(self) -> None:
        while len(self._unsent) > KEPT_RECORDS:
            id, _ = self._unsent.popitem(last=False)
            self._due.pop(id, None)
            self.dropped += 1
        self._file.tidy(list(self._unsent.values()), KEPT_RECORDS)


def _decision(record: AuditRecord) -> Decision:
    return (record.what, record.outcome, record.who, record.subject, record.reason, record.where)
