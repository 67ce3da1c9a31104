"""What TLS itself refused, where the hub's log cannot be read: its servers remember the connections that ended last.

They say from where and when, and not why; the log says that (`tailing`). All replicas look and write the same records,
one a minute and address, at the same place: who knocks a thousand times fills no stream.
"""

import hashlib
import logging
from collections import defaultdict
from collections.abc import Iterable

from canopy.bus.audits import address_of
from canopy.bus.jsapi import StreamError
from canopy.bus.outcome import AskFailed
from canopy.bus.streams import LastValues
from canopy.bus.system import Connected, System
from canopy.contracts.identity_wire import AuditRecord
from canopy.contracts.roles import SPIRE_INTEGRATION
from canopy.contracts.times import millis
from canopy.contracts.wire import encode
from canopy.runtime.clock import Clock
from canopy.spire_integration.callout import ADMISSION
from canopy.spire_integration.counts import Counts

log = logging.getLogger("canopy.spire_integration")
LOOK_SECONDS = 10.0
MINUTE_MS = 60_000
ID_BYTES = 8
FAILED = "TLS Handshake Failure"
"""nats-server's word for why a connection ended."""


def refusals(ended: Iterable[Connected]) -> list[AuditRecord]:
    """A record for each address and minute in which TLS refused somebody."""
    groups: dict[tuple[str, str, str, int], list[int]] = defaultdict(list)
    for one in ended:
        if one.reason == FAILED and (at := millis(one.stopped)):
            groups[one.server, one.host, one.kind, at // MINUTE_MS].append(at)
    return [_record(key, sorted(times)) for key, times in sorted(groups.items())]


def _record(key: tuple[str, str, str, int], times: list[int]) -> AuditRecord:
    _, host, kind, _ = key
    return AuditRecord(
        id=hashlib.blake2b(repr(key).encode(), digest_size=ID_BYTES).hexdigest(),
        at=times[0],
        what=ADMISSION,
        outcome="refused",
        reason=f"TLS: a {kind}: its certificate is none that the hub believes, or it hung up; the hub's log says which",
        where=host,
        unit=SPIRE_INTEGRATION,
        count=len(times),
        last=times[-1] if len(times) > 1 else 0,
    )


class Ended:
    """`run` until cancelled."""

    def __init__(self, system: System, stream: LastValues, counts: Counts, clock: Clock) -> None:
        self._system, self._stream, self._counts, self._clock = system, stream, counts, clock
        self._written: dict[str, AuditRecord] = {}

    async def run(self) -> None:
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except (AskFailed, StreamError) as e:
                self._counts.failures.add(part="hub")
                log.debug("connections that ended: %s", e)

    async def look(self) -> None:
        """Once. Raises AskFailed, StreamError."""
        found = {record.id: record for record in refusals(await self._system.ended())}
        for id, record in found.items():
            known = self._written.get(id)
            if known is None or known.count < record.count:
                await self._stream.put(address_of(record), encode(record), None)
                self._counts.refusals.add(record.count - (known.count if known else 0), why="tls")
                self._written[id] = record
        self._written = {id: record for id, record in self._written.items() if id in found}
